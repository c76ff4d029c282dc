"""How a model's logits map to a data set's labels, and the prediction columns of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustvit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Reading:
    """A mapping from a model's logits to a data set's labels.

    columns: the logits of label 0, 1, 2, …; None takes all of them, in their order. classes: how many classes compete; without `columns`
    or `groups` the model must have exactly that many logits. outputs: with either, how many logits the model must have; None allows any
    model that has those named. groups: instead of columns, the logits that together are read as label 0, 1, 2, …, combined by `pool`: `max`
    takes the best logit of a group, so that the prediction is the group of the best logit (ImageNet-9); `mean` takes the logarithm of the
    mean of their softmax probabilities over all logits (the sixteen categories of model-vs-human). Groups beyond the labels may hold
    logits of no label.
    """

    name: str
    classes: int
    columns: tuple[int, ...] | None = None
    outputs: int | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    pool: Literal["max", "mean"] = "max"

    def check(self, outputs: int, model: str, data: str) -> None:
        """Raises ModelError where a model with `outputs` logits cannot be read so. model, data: their names in the message."""
        if self.columns is None and self.groups is None and outputs != self.classes:
            raise ModelError(
                f"model '{model}' has {outputs} classes, data '{data}' has {self.classes}: predictions cannot be compared with labels."
            )
        if self.outputs is not None and outputs != self.outputs:
            raise ModelError(f"data '{data}' is read from {self.outputs} logits (reading '{self.name}'); model '{model}' has {outputs}.")
        if self.columns is not None and outputs <= max(self.columns):
            raise ModelError(f"data '{data}' reads logit {max(self.columns)} (reading '{self.name}'); model '{model}' has only {outputs}.")

    def read(self, logits: Tensor) -> Tensor:
        """(N, outputs) logits → (N, classes) scores of the labels."""
        if self.groups is not None:
            scores = logits if self.pool == "max" else torch.softmax(logits.double(), dim=1)
            parts = [scores[:, torch.tensor(group, device=logits.device)] for group in self.groups]
            return torch.stack([p.amax(dim=1) if self.pool == "max" else p.mean(dim=1).log() for p in parts], dim=1)
        return logits if self.columns is None else logits[:, torch.tensor(self.columns, device=logits.device)]


def prediction_columns(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The columns of the Records that follow from a sample's logits and label, in float64.

    logits: (N, K); labels: (N,). Returns pred (lowest index on ties), confidence (largest softmax), nll (natural log), margin (label's
    logit minus the best other; positive means right), brier (sum over classes of (p − onehot)², in [0, 2]), rank of the label (1 is best;
    a tie counts against it only where the rival has the lower index), and top5, the indices of the largest logits, best first
    (fewer than five classes leave −1).
    """
    scores = logits.double()
    rows = torch.arange(len(labels), device=labels.device)
    log_p = torch.log_softmax(scores, dim=1)
    p = log_p.exp()
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    own = scores[rows, labels]
    others = scores.clone()
    others[rows, labels] = -torch.inf
    onehot = torch.zeros_like(p)
    onehot[rows, labels] = 1.0
    top = torch.full((len(labels), 5), -1, dtype=torch.int64, device=labels.device)
    top[:, : min(5, scores.shape[1])] = order[:, :5]
    return {
        "pred": order[:, 0],
        "confidence": p.amax(dim=1),
        "nll": -log_p[rows, labels],
        "margin": own - others.amax(dim=1),
        "brier": (p - onehot).square().sum(dim=1),
        "rank": (order == labels[:, None]).int().argmax(dim=1) + 1,
        "top5": top,
    }


def label_rank(scores: Tensor, labels: Tensor) -> Tensor:
    """(N,) rank of each label among (N, K) scores: 1 is best, and a tie counts against it only where the other class's index is lower."""
    own = scores.gather(1, labels[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(dim=1) + 1
