"""Spatial attacks: shifts and rotations of the whole image that make the model misclassify it."""
