"""The rows of a store as a data set for other programs: a folder for the Hugging Face hub, or a DuckDB file."""
