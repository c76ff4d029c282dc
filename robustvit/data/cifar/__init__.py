"""CIFAR-10 and CIFAR-100, and their released corrupted copies."""
