"""What keeps a store in order: verification, sizes, merging, and removing what nothing names."""
