"""Analyses of attribution maps: whether they tell what a prediction rests on, and whether they stay when images shift."""
