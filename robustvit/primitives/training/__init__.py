"""What defenses are written with: the images that adversarial training makes, and the model that it makes them against."""
