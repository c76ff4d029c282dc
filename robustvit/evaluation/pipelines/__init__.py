"""Pipelines of transforms in a run: what they nest, what they learn, and the models that they make."""
