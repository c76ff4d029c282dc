"""From per-sample values to an estimate with its confidence interval. Never torch."""
