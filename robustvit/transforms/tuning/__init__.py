"""Structures that fine-tuning adds to a frozen model, which a checkpoint of a tuned one names."""
