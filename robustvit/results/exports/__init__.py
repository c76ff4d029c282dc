"""The leaderboard in the formats of other projects, one module for each format."""
