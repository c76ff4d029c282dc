"""Where the pixels of moved images come from: border rules, whole shifts, maps of the plane, and differentiable resampling."""
