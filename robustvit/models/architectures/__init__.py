"""Architectures of papers, each with random weights at any size of images: `arch/NAME`."""
