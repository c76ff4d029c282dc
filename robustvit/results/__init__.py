"""From Records to tables: leaderboard, summary, comparison, export. Never torch."""
