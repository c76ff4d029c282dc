"""Readouts: heads that are learned of labelled samples in closed form, on the features of a frozen model."""
