"""Transforms that compute on fewer tokens."""
