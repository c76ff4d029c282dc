"""How data sets are read from disk; no plug-in lives here."""
