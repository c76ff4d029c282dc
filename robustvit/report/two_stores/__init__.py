"""The page that compares two stores."""
