"""Data sets: sized, indexable, with stable ids and a fingerprint."""
