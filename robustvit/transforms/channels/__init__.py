"""Transforms of which channels of an image a model sees."""
