"""Geometric corruptions: the content of an image shifted, cropped, flipped, turned, warped or partly erased."""
