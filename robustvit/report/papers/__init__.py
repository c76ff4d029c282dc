"""Figures of a report as files for papers."""
