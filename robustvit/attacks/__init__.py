"""Attacks: a model, images, labels and draws in, images inside a budget out."""
