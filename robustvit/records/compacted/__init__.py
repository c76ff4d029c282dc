"""Finished cells in one large file each, and the tables of samples that they share."""
