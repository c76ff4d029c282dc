"""Curves of a leaderboard, as panels of the report: over certified levels, numbers of transforms, parts that are removed."""
