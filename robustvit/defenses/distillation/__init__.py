"""Defenses that let a model learn from another."""
