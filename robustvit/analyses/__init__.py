"""Analyses: per-sample measurements of a model other than its predictions. `@robustvit.analysis` adds one."""
