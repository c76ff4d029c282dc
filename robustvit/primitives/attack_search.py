"""The record that an attack keeps per sample while it searches: adversarial images, who is still robust, queries and gradients.

Every attack queries the model through a Search. It keeps each sample's first adversarial image (or, given a norm, the nearest), counts
forward passes and gradients per sample, notices gradients that are zero, missing or not finite, and binds the randomness of a random model
to the samples of each query. A misclassified sample is no longer in `active`, so
a loop over `active` spends nothing more on it. A model in half precision is attacked in half precision; whatever seems to fool it is
checked in float32 before it counts (these checks are not among the queries). A sample may occur several times in one call, for example with
a patch at several places: each row is a query, and the first row that fools the model is kept.
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
from robustvit.primitives.inference.input_gradients import raw_gradient
from robustvit.primitives.inference.keyed import bound_rows, chance, keyed_by

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(n, K) logits and the n indices of their samples → (n,) losses, which the attack maximises."""

PixelFunction: TypeAlias = Callable[[Tensor], Tensor]
"""A differentiable function of pixels: (n, 3, H, W) → (n, 3, H, W)."""

GRADIENTS = ("absent", "straight-through", "exact", "not used", "not told", "surrogate", "not finite", "inside")
_INSIDE = 0.25 / 255  # how far inside [0, 1] a gradient is taken where it is not finite: a quarter of a level changes no prediction of note


@dataclass
class Crafted:
    """What an attack returns, or a corruption with columns of its own.

    images: (N, 3, H, W) in [0, 1]. columns: of the Records, one value for each sample. fooled: (N,) bool, whether the attack saw the model
    misclassify the returned image; None where it does not say.
    """

    images: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    fooled: Tensor | None = None


class Evaluation(NamedTuple):
    """One forward and backward pass: (n, K) logits, (n,) losses, and the gradient of each sample's loss, shaped like the pixels."""

    logits: Tensor
    loss: Tensor
    gradient: Tensor


def input_gradient(values: Tensor, leaf: Tensor, *, retain_graph: bool = False) -> Tensor:
    """The gradient of the sum of `values` with respect to `leaf`, zero where missing. retain_graph: as in torch.autograd.

    Raises ModelError as `raw_gradient` does.
    """
    gradient = raw_gradient(values.sum(), leaf, retain_graph=retain_graph)
    return torch.zeros_like(leaf) if gradient is None else gradient


def not_finite(gradient: Tensor) -> Tensor:
    """Whether each sample's gradient has a value that is not finite, (n,) bool."""
    values = gradient.flatten(1)
    found = ~torch.isfinite(values.sum(dim=1))  # one pass in place of four; the sum of finite values may overflow, and is looked at again
    if bool(found.any()):
        found[found.clone()] = ~torch.isfinite(values[found]).all(dim=1)
    return found


def _differentiated(model: Classifier, rows: Tensor, pixels: Tensor, loss: Loss, through: PixelFunction | None) -> Evaluation:
    leaf = pixels.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(leaf if through is None else through(leaf))
        values = loss(logits, rows)
    return Evaluation(logits.detach(), values.detach(), input_gradient(values, leaf))


class Search:
    """Tracks, per sample, the best adversarial image, queries and gradients of one attack on a batch.

    images: (N, 3, H, W) in [0, 1], correctly classified; labels: (N,); draws: of the N samples. nearest: keep each sample's adversarial
    image that is nearest in this norm; None keeps the first. within: with `nearest`, count only images no farther than this. confidence:
    with `nearest`, images with at least this margin precede all others. early: whether an attack is finished with a sample once it is
    misclassified; where the images are meant for another model it is not, and the last iterate is kept. labelled: False of an attack that
    reads no labels, whose model may return features in place of logits: nothing then counts as misclassified, and a gradient of zero counts
    wherever it is found.
    """

    def __init__(
        self, model: Classifier, images: Tensor, labels: Tensor, draws: Draws, nearest: norms.Measure | None = None,
        within: float | None = None, early: bool = True, confidence: float = 0.0, labelled: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.images, self.labels, self.draws = model, images, labels, draws
        self.nearest, self.within, self.confidence = nearest, within, confidence
        self.labelled, self.early = labelled, early and labelled
        self._random = keyed_by(model, draws) is not model
        n, device = len(images), images.device
        self.best = images.clone()
        self.best_norm = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.misclassified = torch.zeros(n, dtype=torch.bool, device=device)
        self.steps = torch.full((n,), -1, dtype=torch.int32, device=device)
        self.queries, self.gradients = (torch.zeros(n, dtype=torch.int32, device=device) for _ in range(2))
        self._zero_gradients = torch.zeros(n, dtype=torch.int32, device=device)
        self._not_finite, self._inside = (torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2))

    @property
    def active(self) -> Tensor:
        """The indices of the samples still to be attacked, ascending: those not misclassified yet."""
        return self.is_active(torch.arange(len(self.misclassified), device=self.misclassified.device)).nonzero().flatten()

    def is_active(self, rows: Tensor) -> Tensor:
        """Whether each of the samples `rows` is still to be attacked, (n,) bool."""
        return ~self.misclassified[rows] if self.early else torch.ones_like(rows, dtype=torch.bool)

    def model_of(self, rows: Tensor) -> Classifier:
        """The model to ask about the samples `rows`, (n,) indices that may repeat: a random one with its randomness keyed by them."""
        return keyed_by(self.model, self.draws[rows]) if self._random else self.model

    def query(self, rows: Tensor, pixels: Tensor) -> Tensor:
        """The logits (n, K) of candidate images (n, 3, H, W) for the samples `rows`; misclassified candidates are kept."""
        with torch.no_grad():
            logits: Tensor = self.model_of(rows)(pixels)
        self._record_query(rows, pixels, logits)
        return logits

    def query_gradient(
        self, rows: Tensor, pixels: Tensor, loss: Loss, *, candidates: bool = True, eot: int = 1, through: PixelFunction | None = None
    ) -> Evaluation:
        """As `query`, with the losses and their gradients with respect to the pixels.

        candidates: whether the pixels may be kept as adversarial images; False where an attack starts outside the ball. eot: how many
        gradients to average, each with fresh randomness of the model (expectation over transformation). through: applied to the pixels
        before the model; gradients are still with respect to `pixels`. A missing gradient counts as zero. One that is not finite, as that
        of a root is at a black pixel, is taken again a quarter of a level inside the range of pixels; values that are not finite there
        count as zero. `outcome` reports all three.
        """
        logits, value, gradient = self._evaluate(self.model_of(rows), rows, pixels, loss, through)
        for turn in range(1, eot):
            model = self.model.bound(chance(self.draws[rows]).at(f"expectation {int(self.gradients[rows].max())}/{turn}"))
            logits, more_value, more_gradient = self._evaluate(model, rows, pixels, loss, through)
            value, gradient = value + more_value, gradient + more_gradient
        evaluation = Evaluation(logits, value / eot, gradient / eot if eot > 1 else gradient)
        return self.record_gradient(rows, pixels, evaluation, candidates=candidates, gradients=eot)

    def record_gradient(
        self, rows: Tensor, pixels: Tensor, evaluation: Evaluation, *, candidates: bool = True, gradients: int = 1
    ) -> Evaluation:
        """Records an evaluation that an attack made by itself, as `query_gradient` records its own; returns it.

        Counts one query and `gradients` gradients per row. candidates: as in `query_gradient`. Of the gradient that it returns, values
        that are not finite are zero.
        """
        broken = not_finite(evaluation.gradient)
        if bool(broken.any()):
            self._not_finite[rows[broken]] = True
            evaluation = evaluation._replace(gradient=evaluation.gradient.nan_to_num(0.0, 0.0, 0.0))
        values = evaluation.gradient.flatten(1)
        zero = (values.amin(dim=1) == 0) & (values.amax(dim=1) == 0)
        if self.labelled:
            zero &= evaluation.logits.argmax(dim=1) == self.labels[rows]  # elsewhere a loss may be clipped: there is nothing more to gain
        self._zero_gradients.index_add_(0, rows, gradients * zero.int())
        self.gradients.index_add_(0, rows, torch.full_like(rows, gradients, dtype=torch.int32))
        self._record_query(rows, pixels, evaluation.logits, candidates)
        return evaluation

    def _evaluate(self, model: Classifier, rows: Tensor, pixels: Tensor, loss: Loss, through: PixelFunction | None) -> Evaluation:
        found = _differentiated(model, rows, pixels, loss, through)
        broken = not_finite(found.gradient).nonzero().flatten()
        if len(broken):
            self._inside[rows[broken]] = True
            some, within = rows[broken], pixels[broken].clamp(_INSIDE, 1.0 - _INSIDE)
            found.gradient[broken] = _differentiated(bound_rows(model, broken), some, within, loss, through).gradient
        return found

    def keep_best(self, rows: Tensor, pixels: Tensor) -> None:
        """Keeps, for those of the samples `rows` that are still active, the best image that the attack reached, though it fools nobody."""
        kept = self.is_active(rows)
        self.best[rows[kept]] = pixels.detach()[kept]

    def outcome(self) -> Crafted:
        """The best images, and the columns steps, queries, gradients and gradient.

        The image of a sample that stayed robust is what `keep_best` was given last, or else the clean image. gradient: "inside" where one
        of a sample's gradients was not finite and was taken inside the range of pixels, "not finite" where it was not finite there either;
        "absent" where half of its gradients or more were zero or missing while the model was right.
        """
        code = torch.full_like(self.gradients, GRADIENTS.index(self.model.gradient))
        code[self._inside] = GRADIENTS.index("inside")
        code[self.gradient_absent] = GRADIENTS.index("absent")
        code[self._not_finite] = GRADIENTS.index("not finite")
        code[self.gradients == 0] = GRADIENTS.index("not used")
        columns = {"steps": self.steps, "queries": self.queries, "gradients": self.gradients, "gradient": code}
        return Crafted(self.best, columns, self.misclassified if self.early else None)

    @property
    def gradient_absent(self) -> Tensor:
        """(N,) bool: whether at least half of a sample's gradients were zero or missing while the model was right."""
        return (self.gradients > 0) & (2 * self._zero_gradients >= self.gradients)

    def fooled(self, rows: Tensor, pixels: Tensor, logits: Tensor) -> Tensor:
        """Whether the model misclassifies each image in float32, (n,) bool. logits: of the pixels, in the precision of the search."""
        wrong: Tensor = logits.argmax(dim=1) != self.labels[rows]
        if self.model.precision != "float32" and bool(wrong.any()):
            model = self.model_of(rows[wrong])
            with torch.no_grad(), model.in_float32():
                wrong[wrong.clone()] = model(pixels[wrong]).argmax(dim=1) != self.labels[rows[wrong]]
        return wrong

    def _record_query(self, rows: Tensor, pixels: Tensor, logits: Tensor, candidates: bool = True) -> None:
        self.queries.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        if not candidates or not self.labelled:
            return
        wrong = self.fooled(rows, pixels, logits)
        if not bool(wrong.any()):
            return
        hit, better = rows[wrong], pixels.detach()[wrong]
        if self.nearest is not None:
            size = norms.size(better - self.images[hit], self.nearest) + self._short(hit, logits[wrong])
            nearer = size < self.best_norm[hit] if self.within is None else (size < self.best_norm[hit]) & (size <= self.within)
            hit, better, size = hit[nearer], better[nearer], size[nearer]
            self.best[hit], self.best_norm[hit] = better, size
        fresh = ~self.misclassified[hit] & _first_occurrence(hit)
        self.steps[hit[fresh]] = self.queries[hit[fresh]]
        if self.nearest is None:
            self.best[hit[fresh]] = better[fresh]
        self.misclassified[hit] = True

    def _short(self, rows: Tensor, logits: Tensor) -> Tensor | float:
        """What is added to the norm of an image, (n,), where its margin does not reach the confidence: more than any norm."""
        if not self.confidence:
            return 0.0
        own = logits.gather(1, self.labels[rows][:, None])
        others = logits.scatter(1, self.labels[rows][:, None], -torch.inf).amax(dim=1, keepdim=True)
        return (self.images[0].numel() + 1.0) * ((others - own)[:, 0] < self.confidence).double()


def _first_occurrence(rows: Tensor) -> Tensor:
    """Whether each entry of `rows` is the first of its value, (n,) bool."""
    order = rows.argsort(stable=True)
    first = torch.ones_like(rows, dtype=torch.bool)
    first[order[1:]] = rows[order[1:]] != rows[order[:-1]]
    return first
