"""Analyses: measurements of a model on samples that are not its answers to them. `@robustvit.analysis` adds one."""
