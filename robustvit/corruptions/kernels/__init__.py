"""Image operations that corruptions are written with; no plug-in lives here."""
