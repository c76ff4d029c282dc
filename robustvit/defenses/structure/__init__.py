"""Defenses that change the structure of a vision transformer, or the way that its structure is trained."""
