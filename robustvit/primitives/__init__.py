"""What plug-ins are written with: images, draws, norms, Classifiers, attack search, votes."""
