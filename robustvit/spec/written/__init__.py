"""Names with arguments, and pipelines of them, as people write them on a command line."""
