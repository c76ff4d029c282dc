"""What an attack knows of its samples while it looks: who still stands, what has been found, and what that cost.

Every attack asks the model through a Search. It keeps the first adversarial image of each sample (or, given a norm, the nearest), counts
forward passes and gradients per sample, and notices gradients that are zero or missing. A sample that has fallen leaves `standing`, so that a
loop over it costs nothing more. A model in half precision is searched in half precision, and what seems to fool it is looked at again in float32
before it counts (these looks are not among the queries). One sample may stand in a call several times, as where a patch is tried in several places:
each row is a query, and the first of those that fool the model is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from robustvit.primitives import norms
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(n, K) logits and the n rows of the samples they are of → (n,): what the attacker wants large."""

Change: TypeAlias = Callable[[Tensor], Tensor]
"""Pixels (n, 3, H, W) → as many pixels, differentiable."""

GRADIENTS = ("absent", "straight-through", "exact", "not used", "not told", "surrogate")


@dataclass
class Crafted:
    """What an attack returns: images (N, 3, H, W) in [0, 1], and columns of the Records, one value for each sample."""

    images: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


class Seen(NamedTuple):
    """What the model said of some pixels: (n, K) logits, (n,) losses, and the gradient of each sample's loss, shaped like the pixels."""

    logits: Tensor
    loss: Tensor
    gradient: Tensor


def slope(values: Tensor, leaf: Tensor, *, again: bool = False) -> Tensor:
    """The gradient of the sum of values with respect to `leaf`, zero where it is missing or no finite number. again: more will be asked of the same graph."""
    found = torch.autograd.grad(values.sum(), leaf, retain_graph=again, allow_unused=True)[0] if values.requires_grad else None
    return torch.zeros_like(leaf) if found is None else found.nan_to_num_(0.0, 0.0, 0.0)


class Search:
    """The books of one attack on a batch. images: (N, 3, H, W) in [0, 1], rightly classified; labels: (N,); draws: of the N samples.

    nearest: keep, of each sample's adversarial images, the one nearest in this norm; None keeps the first. within: count only those no farther than
    this, in that norm. early: whether a sample that has fallen is done with; where the images are for another model it is not, and what an attack
    leaves is kept.
    """

    def __init__(
        self, model: Classifier, images: Tensor, labels: Tensor, draws: Draws, nearest: norms.Measure | None = None, within: float | None = None,
        early: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.images, self.labels, self.draws = model, images, labels, draws
        self.nearest, self.within, self.early = nearest, within, early
        n, device = len(images), images.device
        self.found = images.clone()
        self.size = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.fallen = torch.zeros(n, dtype=torch.bool, device=device)
        self.steps = torch.full((n,), -1, dtype=torch.int32, device=device)
        self.queries, self.gradients = (torch.zeros(n, dtype=torch.int32, device=device) for _ in range(2))
        self.flat = torch.zeros(n, dtype=torch.bool, device=device)

    @property
    def standing(self) -> Tensor:
        """The rows of the samples that are to be attacked, ascending: those that have not fallen."""
        return self.stand(torch.arange(len(self.fallen), device=self.fallen.device)).nonzero().flatten()

    def stand(self, rows: Tensor) -> Tensor:
        """Whether each of some samples is still to be attacked, (n,) bool."""
        return ~self.fallen[rows] if self.early else torch.ones_like(rows, dtype=torch.bool)

    def look(self, rows: Tensor, pixels: Tensor) -> Tensor:
        """(n, K) logits of pixels (n, 3, H, W) that are candidates for the samples `rows`; those misclassified are kept as found."""
        with torch.no_grad():
            logits: Tensor = self.model(pixels)
        self._judge(rows, pixels, logits)
        return logits

    def climb(
        self, rows: Tensor, pixels: Tensor, loss: Loss, *, candidates: bool = True, eot: int = 1, through: Change | None = None
    ) -> Seen:
        """As `look`, and the losses with their gradients.

        candidates: whether the pixels are allowed as adversarial images; an attack that begins outside the ball says no. eot: how many gradients
        to average, each with fresh randomness of the model. through: what is done to the pixels before the model sees them; gradients are of the
        pixels as given. A gradient that is missing counts as zero, and so do numbers that are not finite.
        """
        logits, value, gradient = self._slope(self.model, rows, pixels, loss, through)
        for turn in range(1, eot):
            model = self.model.bound(self.draws[rows].at(f"expectation {int(self.gradients[rows].max())}/{turn}"))
            logits, more, slope = self._slope(model, rows, pixels, loss, through)
            value, gradient = value + more, gradient + slope
        return self.note(
            rows, pixels, Seen(logits, value / eot, gradient / eot if eot > 1 else gradient), candidates=candidates, gradients=eot
        )

    def note(self, rows: Tensor, pixels: Tensor, seen: Seen, *, candidates: bool = True, gradients: int = 1) -> Seen:
        """Enters what an attack has asked of the model itself, as `climb` enters its own: one query, so many gradients. Returns what was seen."""
        first = (self.gradients[rows] == 0) & _leading(rows)
        if bool(first.any()):
            self.flat[rows[first]] = (seen.gradient[first].flatten(1) == 0).all(dim=1)
        self.gradients.index_add_(0, rows, torch.full_like(rows, gradients, dtype=torch.int32))
        self._judge(rows, pixels, seen.logits, candidates)
        return seen

    @staticmethod
    def _slope(model: Classifier, rows: Tensor, pixels: Tensor, loss: Loss, through: Change | None) -> Seen:
        leaf = pixels.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = model(leaf if through is None else through(leaf))
            values = loss(logits, rows)
        return Seen(logits.detach(), values.detach(), slope(values, leaf))

    def leave(self, rows: Tensor, pixels: Tensor) -> None:
        """What an attack gives for those of the samples `rows` that stand: how far it got."""
        kept = self.stand(rows)
        self.found[rows[kept]] = pixels.detach()[kept]

    def outcome(self) -> Crafted:
        """The images found (of a sample that stands, what the attack left, or its own), and the books: steps, queries, gradients, gradient."""
        used = self.gradients > 0
        kind = GRADIENTS.index(self.model.gradient)
        code = torch.where(used, torch.where(self.flat, GRADIENTS.index("absent"), kind), GRADIENTS.index("not used"))
        return Crafted(self.found, {"steps": self.steps, "queries": self.queries, "gradients": self.gradients, "gradient": code})

    def fooled(self, rows: Tensor, pixels: Tensor, logits: Tensor) -> Tensor:
        """Where the model, in float32, is wrong, (n,) bool."""
        wrong: Tensor = logits.argmax(dim=1) != self.labels[rows]
        if self.model.precision != "float32" and bool(wrong.any()):
            with torch.no_grad(), self.model.in_float32():
                wrong[wrong.clone()] = self.model(pixels[wrong]).argmax(dim=1) != self.labels[rows[wrong]]
        return wrong

    def _judge(self, rows: Tensor, pixels: Tensor, logits: Tensor, candidates: bool = True) -> None:
        self.queries.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        if not candidates:
            return
        wrong = self.fooled(rows, pixels, logits)
        if not bool(wrong.any()):
            return
        hit, better = rows[wrong], pixels.detach()[wrong]
        if self.nearest is not None:
            size = norms.size(better - self.images[hit], self.nearest)
            nearer = size < self.size[hit] if self.within is None else (size < self.size[hit]) & (size <= self.within)
            hit, better, size = hit[nearer], better[nearer], size[nearer]
            self.found[hit], self.size[hit] = better, size
        fresh = ~self.fallen[hit] & _leading(hit)
        self.steps[hit[fresh]] = self.queries[hit[fresh]]
        if self.nearest is None:
            self.found[hit[fresh]] = better[fresh]
        self.fallen[hit] = True


def _leading(rows: Tensor) -> Tensor:
    """Where each sample stands for the first time among some rows, (n,) bool."""
    order = rows.argsort(stable=True)
    ahead = torch.ones_like(rows, dtype=torch.bool)
    ahead[order[1:]] = rows[order[1:]] != rows[order[:-1]]
    return ahead
