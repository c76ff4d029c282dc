"""Loaders of models: each turns an address into a Classifier."""
