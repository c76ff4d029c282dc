"""Accuracy of models that lack or exchange some of their parts: blocks, channels, heads, positions."""
