"""Which family of perturbations the numbers of a leaderboard belong to."""
