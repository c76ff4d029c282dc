"""Metrics of attribution maps: of their faithfulness, their stability, and where they point."""
