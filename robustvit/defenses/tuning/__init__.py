"""Which weights fine-tuning trains of a model, and what it adds to it; all others stay to the bit."""
