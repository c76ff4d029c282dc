"""Transforms of the order, the number and the parts of a transformer's blocks."""
