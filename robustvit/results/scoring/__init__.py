"""The scores of groups of cells, kept in the user's cache where they are of finished cells."""
