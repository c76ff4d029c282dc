"""Transforms that make a vision transformer equivariant to shifts of an image, or nearly so."""
