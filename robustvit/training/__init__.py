"""Trains a model with a defense, in a loop that checkpoints."""
