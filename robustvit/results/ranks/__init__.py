"""Ranks of models with ties: which differences between their numbers a paired test shows."""
