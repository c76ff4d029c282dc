"""Calibration: a model with recorders in it is run once over some samples of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier, temporarily
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.spec.sample_order import order

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""

_ROWS = 16  # samples of one forward pass, whatever the model's tile: calibration must not depend on it


def run_calibration(model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, samples: int) -> None:
    """Runs a model in float32 over the first `samples` of a data set in evaluation order, or all where there are fewer.

    Forward passes hold these samples and no padding, so that recorders in the model see nothing else.
    """
    chosen = order(data.ids)[:samples]
    for start in range(0, len(chosen), _ROWS):
        batch = load_batch(data, chosen[start : start + _ROWS])
        _run(keyed_by(model, Draws(draws.seed, draws.stream, batch.ids, model.device)), batch)


def _run(model: Classifier, batch: Batch) -> None:
    with torch.no_grad(), model.in_float32(), temporarily(model, "tile", lambda _: len(batch)):
        model(batch.images)


def calibrated(artifact: Mapping[str, Tensor], name: str, shape: Sequence[int], model: Classifier) -> Tensor:
    """What calibration found under a name, on the device and in the arithmetic of a model.

    Without any artifact it is not a number: a checkpoint's tensors take its place, and a model that lacks them has no logits.
    """
    found = artifact[name] if artifact else torch.full(tuple(shape), torch.nan)
    return found.to(model.device, model.mean.dtype)  # type: ignore[arg-type]
