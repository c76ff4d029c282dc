"""How a model's logits answer a data set's labels, and the per-sample columns that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustvit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Reading:
    """A way of reading logits. `columns` names the logits that answer label 0, 1, 2, …; None takes them all, in their order.

    classes: how many answers compete; without `columns` or `groups` the model must give exactly that many logits. outputs: with either, how
    many logits the model must give; None lets any model that has them answer. groups: instead of columns, the logits that together answer label
    0, 1, 2, …, by `pool`: `max` lets the best of a group speak for it, so that the answer is the group of the best logit (ImageNet-9); `mean`
    takes the logarithm of the mean of their softmax probabilities over all logits (the sixteen categories of model-vs-human). A group beyond
    the labels may gather what answers none of them.
    """

    name: str
    classes: int
    columns: tuple[int, ...] | None = None
    outputs: int | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    pool: Literal["max", "mean"] = "max"

    def check(self, outputs: int, model: str, data: str) -> None:
        """Raises ModelError where a model with `outputs` logits cannot answer."""
        if self.columns is None and self.groups is None and outputs != self.classes:
            raise ModelError(
                f"model '{model}' tells {outputs} classes apart, data '{data}' has {self.classes}: their answers cannot be compared."
            )
        if self.outputs is not None and outputs != self.outputs:
            raise ModelError(f"data '{data}' is read from {self.outputs} logits (reading '{self.name}'); model '{model}' gives {outputs}.")
        if self.columns is not None and outputs <= max(self.columns):
            raise ModelError(
                f"data '{data}' reads logit {max(self.columns)} (reading '{self.name}'); model '{model}' gives only {outputs}."
            )

    def read(self, logits: Tensor) -> Tensor:
        """(N, outputs) → (N, classes)."""
        if self.groups is not None:
            scores = logits if self.pool == "max" else torch.softmax(logits.double(), dim=1)
            parts = [scores[:, torch.tensor(group, device=logits.device)] for group in self.groups]
            return torch.stack([p.amax(dim=1) if self.pool == "max" else p.mean(dim=1).log() for p in parts], dim=1)
        return logits if self.columns is None else logits[:, torch.tensor(self.columns, device=logits.device)]


def judge(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What one set of logits says about each sample, in float64.

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


def rank(scores: Tensor, labels: Tensor) -> Tensor:
    """(N,) place of each label among (N, K) scores, as judge counts it: 1 is best, and a tie counts against it only where the rival has the lower index."""
    own = scores.gather(1, labels[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(dim=1) + 1
