"""Of how many anchors of a model several phases of an image have the largest norm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.recorded.forward_records import recording

_COUNTS = "counts_ties"  # what a module has that sets `tied`, (N,) bool, at every forward pass


@contextlib.contextmanager
def recorded_ties(model: Classifier, rows: int) -> Iterator[dict[str, Tensor]]:
    """Context that fills a dict with `value_tied` (rows,) of the images that are predicted within it: how many anchors were tied.

    rows: how many images go through the model, in whole tiles but for the last. Left empty for models without anchors.
    """
    found: dict[str, Tensor] = {}
    parts: dict[Any, list[Tensor]] = {}
    with recording(model, _COUNTS, lambda made: parts.setdefault(made, []).append(made.tied.detach().clone())):
        yield found
    if parts:
        every = torch.stack([torch.cat(own)[:rows] for own in parts.values()])
        found["value_tied"] = every.sum(dim=0).float()
