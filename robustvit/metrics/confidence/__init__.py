"""Metrics of how far confidence can be believed: calibration, selection by confidence, conformal sets."""
