"""A transform that learns: subtracts the mean logits of calibration images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.primitives.passes import Passes
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.sample_order import order

CALLS: list[str] = []  # of the function that learns, by the model's label


class Shifted(nn.Module):
    """A module and what is subtracted from its logits."""

    def __init__(self, inner: nn.Module, mean: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("shift", mean)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images) - self.shift
        return logits


@rv.transform(source="a test", fit="learn", passes="passes", no_op="share=0")
def shift_logits(
    model: rv.Classifier, artifact: Mapping[str, Tensor], *, calibration: rv.Data, samples: int = 8, share: float = 1.0
) -> rv.Classifier:  # fmt: skip
    """Subtracts a share of the mean logits of calibration images."""
    return changed(model, lambda module: Shifted(module, share * artifact["mean"]))


def learn(
    model: rv.Classifier, load_batch: Callable[[Any, np.ndarray], rv.Batch], draws: rv.Draws, *, calibration: rv.Data, samples: int,
    share: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The mean logits."""
    CALLS.append(model.card.label)
    if share > 1:
        raise RuntimeError("a share above one")
    batch = load_batch(calibration, order(calibration.ids)[:samples])
    with torch.no_grad():
        return {"mean": model(batch.images).mean(dim=0)}


def passes(spec: rv.Spec, model: rv.Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A forward pass for each image."""
    return Passes(fit=1.0)
