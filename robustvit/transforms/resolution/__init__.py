"""Transforms that give a model images of another size, or position encodings for any size."""
