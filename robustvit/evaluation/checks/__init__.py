"""What a run checks before it computes anything: the model on real images, the rows that a store already holds."""
