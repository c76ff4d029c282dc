"""What somebody submits for a board: the numbers of one model on one suite, and the digests of the Records that they are of."""
