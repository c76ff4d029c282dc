"""Image operations that the corruptions are built from; no plug-in is defined here."""
