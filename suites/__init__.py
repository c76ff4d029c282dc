"""The declarative suites, found through importlib.resources in every kind of install."""
