"""Metrics of the analyses of what the blocks of a transformer do."""
