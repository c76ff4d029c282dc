"""Transforms that set weights to zero."""
