"""Fetches the files of data sets whose authors let them be fetched directly."""
