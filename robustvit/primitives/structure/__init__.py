"""Structures that are trained in place of those of a plain vision transformer."""
