"""Defenses that change or mix the images of a batch."""
