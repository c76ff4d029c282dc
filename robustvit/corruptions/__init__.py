"""Corruptions: images, draws and a severity in, images out."""
