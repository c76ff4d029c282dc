"""What quantisers share: grids, ranges and calibration, quantised weights, inputs and attention maps."""
