"""Fractals of iterated function systems, computed rather than downloaded."""
