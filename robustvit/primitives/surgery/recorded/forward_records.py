"""What modules of a model note of their forward passes, taken while images are predicted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from robustvit.primitives.classifier import Classifier, temporarily


@contextlib.contextmanager
def recording(model: Classifier, mark: str, record: Callable[[Any], None]) -> Iterator[None]:
    """Context in which `record` is called after every forward pass of a module with the attribute `mark`, in tiles of the model's size."""
    handles = [part.register_forward_hook(lambda made, *_: record(made)) for part in model.modules() if hasattr(part, mark)]
    try:
        with temporarily(model, "_small_tiles", lambda _: False):
            yield
    finally:
        for handle in handles:
            handle.remove()
