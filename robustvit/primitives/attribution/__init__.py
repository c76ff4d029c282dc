"""Attribution maps: how much each patch of an image counts for a class, one module for a family of methods."""
