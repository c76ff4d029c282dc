"""Numbers that others published: one CSV for each source, one row for each number. `models/` tells of the models themselves."""
