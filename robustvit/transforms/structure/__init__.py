"""Transforms that give a plain vision transformer another structure to be trained with; on trained weights they change predictions."""
