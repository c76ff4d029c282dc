"""Networks with random weights: the architectures that plug-ins register, what ours are built from, and what happens to their images."""
