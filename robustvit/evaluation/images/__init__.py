"""Decoded images: read once, cached on disk."""
