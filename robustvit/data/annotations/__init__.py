"""Labels, class names and masks that come beside data sets; no plug-in lives here."""
