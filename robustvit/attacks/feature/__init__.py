"""Attacks on the features of a model, which read no labels: per image, and one perturbation for all images."""
