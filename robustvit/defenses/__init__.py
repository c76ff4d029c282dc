"""Defenses: the parts that each adds to a training loop."""
