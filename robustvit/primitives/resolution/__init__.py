"""What input size means inside a network: grids of patches, and position embeddings for another grid."""
