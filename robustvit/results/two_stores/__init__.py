"""Two stores side by side: their headline numbers, with differences that are paired by sample."""
