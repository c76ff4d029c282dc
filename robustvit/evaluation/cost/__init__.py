"""What a run costs: operations, the speed of this machine, the time and the disk that a plan will take, rows that fit the memory."""
