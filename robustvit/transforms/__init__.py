"""Transforms: a Classifier in, another one out. None ships yet; `@robustvit.transform` adds one."""
