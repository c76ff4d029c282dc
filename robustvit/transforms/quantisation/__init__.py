"""Transforms that compute with fewer bits."""
