"""Defenses: what training adds to a plain loop."""
