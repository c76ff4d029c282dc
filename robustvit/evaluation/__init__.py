"""Runs a Suite on models and data, and writes the Records into a Store."""
