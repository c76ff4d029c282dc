"""What a pass through a transformed model leaves for the Records: tokens and costs of each image, ties of an anchor."""
