"""Analyses of what the blocks of a transformer do, of clean images and of shifted ones."""
