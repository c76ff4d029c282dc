"""Pretext tasks: losses without labels, whose checkpoints are trained on."""
