"""The report: one HTML file that needs no network.

`page.write_report` writes it. Each other module turns the leaderboard or the store into what one part of the page shows, as plain frozen
values; the templates beside them draw those values and decide nothing.
"""
