"""Training a model with a defense, with checkpoints after every epoch."""
