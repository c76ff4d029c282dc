"""Tables in LaTeX: what its text is, how wide it is, and how it is set."""
