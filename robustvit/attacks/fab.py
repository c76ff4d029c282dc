"""FAB: steps onto the nearest decision boundary, linearised, and back towards the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from robustvit.attacks.losses import wrong_classes
from robustvit.primitives.attack_search import Crafted, Evaluation, Loss, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, boundary_distance, nonzero_scale, per_sample, random_start, size
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

_CITATION = """@inproceedings{croce2020minimally,
  title={Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack},
  author={Croce, Francesco and Hein, Matthias},
  booktitle={International Conference on Machine Learning},
  year={2020}
}"""
_TINY = 1e-12
_LARGEST_SHARE = 0.1  # largest weight of the projection of the clean image in a step
_OVERSHOOT = 1.05
_BACK = 0.9  # an adversarial iterate is moved back to this share of its perturbation


@attack(
    severity="eps",
    family="white-box",
    source="Croce and Hein 2020",
    url="https://arxiv.org/abs/1907.02044",
    citation=_CITATION,
    passes="targeted_passes",
    version=2,
)
def fab_t(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius | None = None, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, targets: Count = 9,
) -> Crafted:  # fmt: skip
    """Targeted FAB (Croce and Hein 2020): searches for the nearest image of each of the most likely wrong classes.

    eps: a sample stops as soon as an adversarial image within this radius is found, and images farther away do not count; None finds the
    nearest image of every sample, at full cost, as in the paper. steps: of each run. restarts: the first run starts at the image, others at
    random in a ball. targets: how many classes, by their logits on the clean image; at most all but one. Differs from the paper: with eps a
    sample stops early, and random starts belong to samples.
    """
    search = Search(model, images, labels, draws, nearest=norm, within=eps)
    ranked = wrong_classes(search)
    for restart in range(restarts):
        for turn in range(min(targets, ranked.shape[1])):
            rows = search.active if eps is not None else torch.arange(len(images), device=images.device)
            if len(rows):
                start = draws.at(f"{restart}/target {turn}")[rows] if restart else None
                _run(search, rows, ranked[:, turn : turn + 1], start, eps, norm, steps)
    return search.outcome()


@attack(
    severity="eps",
    family="white-box",
    source="Croce and Hein 2020",
    url="https://arxiv.org/abs/1907.02044",
    citation=_CITATION,
    passes="any_class_passes",
    version=2,
)
def fab(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius | None = None, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, classes: Count | None = None,
) -> Crafted:  # fmt: skip
    """FAB (Croce and Hein 2020) towards whichever class's decision boundary is nearest at each step; takes a gradient for every class.

    classes: how many of the most likely wrong classes, by their logits on the clean image; None takes all, which is expensive with a
    thousand. Other parameters and differences from the paper as for fab_t.
    """
    search = Search(model, images, labels, draws, nearest=norm, within=eps)
    ranked = wrong_classes(search)[:, :classes]
    for restart in range(restarts):
        rows = search.active if eps is not None else torch.arange(len(images), device=images.device)
        if len(rows):
            _run(search, rows, ranked, draws.at(f"{restart}/any")[rows] if restart else None, eps, norm, steps)
    return search.outcome()


@dataclass
class _State:
    """The samples of a run and their current iterates."""

    rows: Tensor
    images: Tensor
    at: Tensor

    def keep(self, mask: Tensor) -> _State:
        """The samples selected by a boolean mask."""
        return self if bool(mask.all()) else _State(*(getattr(self, one.name)[mask] for one in fields(self)))


def _run(search: Search, rows: Tensor, toward: Tensor, start: Draws | None, eps: float | None, norm: Norm, steps: int) -> None:
    images = search.images[rows]
    at = images.clone()
    if start is not None:
        reach = torch.minimum(search.best_norm[rows], torch.full_like(search.best_norm[rows], eps or 1.0)).to(images)
        at = (images + random_start(images, 1.0, norm, start) * per_sample(reach, images) / 2).clamp_(0.0, 1.0)
    state = _State(rows, images, at)
    for _ in range(steps):
        if eps is not None:
            state = state.keep(~search.misclassified[state.rows])
        if not len(state.rows):
            return
        _step(search, state, _nearest_plane(search, state, toward, norm), norm)


def _gap(search: Search, toward: Tensor) -> Loss:
    """The target's logit minus the label's: the boundary is where it is zero."""

    def gap(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.gather(1, toward[rows][:, None])[:, 0] - logits.gather(1, search.labels[rows][:, None])[:, 0]

    return gap


def _nearest_plane(search: Search, state: _State, toward: Tensor, norm: Norm) -> Evaluation:
    """The evaluation whose decision boundary is nearest to first order, among the classes (N, C).

    Its loss and gradient are divided by the gradient's largest value: the boundary stays where it is, whatever the scale of the logits.
    """
    best, least = None, torch.full((len(state.rows),), torch.inf, device=state.at.device)
    for column in range(toward.shape[1]):
        new = search.query_gradient(state.rows, state.at, _gap(search, toward[:, column]), candidates=False)
        away, scale = boundary_distance(new.loss, new.gradient, norm), nonzero_scale(new.gradient)
        new = new._replace(loss=new.loss / scale, gradient=new.gradient / per_sample(scale, new.gradient))
        nearer = away < least
        least = torch.where(nearer, away, least)
        best = new if best is None else Evaluation(*(torch.where(per_sample(nearer, a), a, b) for a, b in zip(new, best, strict=True)))
    assert best is not None
    return best


def _step(search: Search, state: _State, boundary: Evaluation, norm: Norm) -> None:
    """Moves each iterate to a mean of its own projection onto the linearised boundary and the clean image's, both overshooting."""
    offset = boundary.loss - (boundary.gradient * state.at).flatten(1).sum(dim=1)
    here = to_plane(state.at, boundary.gradient, offset, norm)
    home = to_plane(state.images, boundary.gradient, offset, norm)
    lengths = [size(delta, norm).clamp_min(1e-8) for delta in (here, home)]
    share = per_sample((lengths[0] / (lengths[0] + lengths[1])).clamp(0.0, _LARGEST_SHARE), here).to(here)
    moved = (state.at + _OVERSHOOT * here) * (1.0 - share) + (state.images + _OVERSHOOT * home) * share
    state.at = moved.clamp_(0.0, 1.0)
    logits = search.query(state.rows, state.at)
    over = logits.argmax(dim=1) != search.labels[state.rows]
    back = state.images + (state.at - state.images) * _BACK
    state.at = torch.where(per_sample(over, state.at), back, state.at)


def to_plane(points: Tensor, normal: Tensor, offset: Tensor, norm: Norm) -> Tensor:
    """The smallest step (in `norm`) from each point to the plane normal·z + offset = 0 that stays in [0, 1].

    Where the plane misses the box, the step goes to the corner of the box on the plane's side.

    points, normal: (N, ...); offset: (N,). Exact: normal·step is piecewise linear in the size of the step, and its breakpoints are sorted.
    """
    flat, weight = points.flatten(1).double(), normal.flatten(1).double()
    short = (weight * flat).sum(dim=1) + offset.double()
    toward = -weight * short.sign()[:, None]
    room = torch.where(toward > 0, 1.0 - flat, flat)
    pull = toward.abs()
    if norm == "l1":
        step = _greedy(pull, room, short.abs())
    else:
        bend, slope = (room, pull) if norm == "linf" else (room / pull.clamp_min(_TINY), pull.square())
        level = _level(bend, slope, short.abs())[:, None]
        step = torch.minimum(level if norm == "linf" else level * pull, room)
    return (toward.sign() * step).to(points.dtype).view_as(points)


def _level(bend: Tensor, slope: Tensor, wanted: Tensor) -> Tensor:
    """The t with Σ slope · min(t, bend) = wanted, (N,); the largest bend where the sum stays below."""
    knots, order = bend.sort(dim=1)
    ranked = slope.gather(1, order)
    left = ranked.sum(dim=1, keepdim=True) - ranked.cumsum(dim=1) + ranked  # slope before each knot
    gain = (left * torch.diff(knots, dim=1, prepend=torch.zeros_like(knots[:, :1]))).cumsum(dim=1)
    place = (gain < wanted[:, None]).sum(dim=1, keepdim=True).clamp(max=knots.shape[1] - 1)
    excess = (gain.gather(1, place) - wanted[:, None]).clamp_min(0.0)
    return (knots.gather(1, place) - excess / left.gather(1, place).clamp_min(_TINY))[:, 0].clamp_min(0.0)


def _greedy(pull: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Steps (N, D) that move the coordinates of the largest pull first, until Σ pull · step = wanted."""
    ranked, order = pull.sort(dim=1, descending=True)
    gains = ranked * room.gather(1, order)
    before = gains.cumsum(dim=1) - gains
    taken = torch.minimum((wanted[:, None] - before).clamp_min(0.0), gains) / ranked.clamp_min(_TINY)
    return torch.zeros_like(pull).scatter_(1, order, taken)


def targeted_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """At each step a gradient and the prediction of the new iterate, for every target class."""
    steps = min(product_of(spec, "targets"), model.outputs - 1) * product_of(spec, "steps", "restarts")
    return Passes(forward=steps, gradients=steps)


def any_class_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """At each step a gradient for every class, and the prediction of the new iterate."""
    steps, classes = product_of(spec, "steps", "restarts"), spec.get("classes")
    each = model.outputs - 1 if not isinstance(classes, int) else min(classes, model.outputs - 1)
    return Passes(forward=steps, gradients=steps * each)
