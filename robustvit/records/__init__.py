"""The evidence: Records, one row per cell and sample, and the Store that keeps them. Never torch."""
