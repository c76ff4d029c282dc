"""Where the numbers of a run or of training are logged, one module for each kind of log."""
