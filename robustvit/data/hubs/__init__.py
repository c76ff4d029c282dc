"""Data sets of hubs, read by the packages of these hubs."""
