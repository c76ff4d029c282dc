"""The report: Records and leaderboards as one HTML file that needs no network. Never torch."""
