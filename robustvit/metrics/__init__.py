"""Metrics: Records in, a number and its interval out. Never torch."""
