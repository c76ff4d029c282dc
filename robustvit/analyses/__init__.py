"""Analyses: measurements of a model on samples. None ships yet; `@robustvit.analysis` adds one."""
