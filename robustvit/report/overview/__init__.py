"""One figure for each model, of all families of perturbations side by side."""
