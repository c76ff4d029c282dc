"""Auto-PGD: projected gradient ascent with momentum whose step shrinks where it no longer helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.attacks.losses import cross_entropy, dlr, dlr_targeted
from robustvit.primitives import norms
from robustvit.primitives.attack_search import Crafted, Loss, Search, Seen
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, project_in_box, surface_start
from robustvit.spec.registry import attack

Radius = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]

CITATION = """@inproceedings{croce2020reliable,
  title={Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-Free Attacks},
  author={Croce, Francesco and Hein, Matthias},
  booktitle={International Conference on Machine Learning},
  year={2020}
}"""
_URL = "https://arxiv.org/abs/2003.01690"
_MOMENTUM = 0.75
_SPARSER = 1.5  # l1: what the share of coordinates, and a step that did not help, are divided by
_PROGRESS = 0.75  # the share of steps in a window that must raise the loss
_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # in l1: the search begins in larger balls, and comes in


@attack(severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION)
def apgd_ce(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, eot: Count = 1,
) -> Crafted:  # fmt: skip
    """APGD on the cross-entropy.

    eps: radius in pixel units; write 4/255. steps: of each run. restarts: fresh random starts for the samples that still stand. eot: gradients
    averaged at each step, for models with randomness of their own. A sample stops at its first misclassified iterate. In l1 each run goes through
    balls of 3, 2 and 1 eps.
    """
    return _restarted(model, images, labels, draws, cross_entropy, eps, norm, steps, restarts, eot)


@attack(severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION)
def apgd_dlr(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, eot: Count = 1,
) -> Crafted:  # fmt: skip
    """APGD on the difference of logits ratio, which does not change when logits are scaled. Parameters as for apgd_ce."""
    return _restarted(model, images, labels, draws, dlr, eps, norm, steps, restarts, eot)


@attack(severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION)
def apgd_t(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, targets: Count = 9, eot: Count = 1,
) -> Crafted:  # fmt: skip
    """APGD on the targeted difference of logits ratio, one run for each of the likeliest wrong classes.

    targets: how many classes, in the order of the clean logits; at most all but one. Other parameters as for apgd_ce.
    """
    search = Search(model, images, labels, draws)
    ranked = rivals(search)
    for restart in range(restarts):
        for turn in range(min(targets, ranked.shape[1])):
            rows = search.standing
            keyed = draws.at(f"{restart}/target {turn}")[rows]
            _run(
                search,
                rows,
                _toward(labels, ranked[:, turn]),
                keyed,
                eps,
                norm,
                steps,
                eot,
            )
    return search.outcome()


def _toward(labels: Tensor, targets: Tensor) -> Loss:
    return lambda logits, rows: dlr_targeted(logits, labels[rows], targets[rows])


def rivals(search: Search) -> Tensor:
    """(N, K − 1) the classes other than the label, the likeliest on the clean image first."""
    logits = torch.cat([search.model(part) for part in torch.split(search.images, 4096)])
    own = torch.nn.functional.one_hot(search.labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :-1]


def _restarted(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, loss: Callable[[Tensor, Tensor], Tensor],
    eps: float, norm: Norm, steps: int, restarts: int, eot: int,
) -> Crafted:  # fmt: skip
    search = Search(model, images, labels, draws)
    for restart in range(restarts):
        rows = search.standing
        _run(search, rows, lambda logits, rows: loss(logits, labels[rows]), draws.at(restart)[rows], eps, norm, steps, eot)
    return search.outcome()


def _run(
    search: Search, rows: Tensor, loss: Loss, draws: Draws, eps: float, norm: Norm, steps: int, eot: int
) -> None:  # fmt: skip
    """One run from a random start over the samples `rows`; in l1 through three balls, each begun where the last one ended."""
    if not len(rows):
        return
    images = search.images[rows]
    if norm != "l1":
        _ascend(search, rows, images + surface_start(images, eps, norm, draws), loss, eps, norm, steps, eot)
        return
    start = images + surface_start(images, _RADII[0][0] * eps, norm, draws)
    outer = [int(share * steps) for _, share in _RADII[:-1]]
    for (factor, _), count in zip(_RADII, [*outer, steps - sum(outer)], strict=True):
        if not len(rows):
            return
        start = images + project_in_box(images, start - images, factor * eps, norm)
        state = _ascend(search, rows, start, loss, factor * eps, norm, count, eot, None if factor == 1.0 else eps)
        rows, images, start = state.rows, state.images, state.best


@dataclass
class _Climb:
    """Where each of some samples is on its way. `best` is the iterate of the highest loss."""

    rows: Tensor
    images: Tensor
    at: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    checked_loss: Tensor  # the highest loss at the last check
    halved: Tensor  # whether the last check made the step smaller
    rises: Tensor  # steps since then that raised the loss
    step: Tensor
    share: Tensor  # l1: of the coordinates that a step moves
    count: Tensor  # l1: of coordinates by which the best iterate differed at the last check

    def keep(self, mask: Tensor) -> _Climb:
        """The samples of a mask."""
        return self if bool(mask.all()) else _Climb(*(getattr(self, one.name)[mask] for one in fields(self)))


def _ascend(
    search: Search, rows: Tensor, start: Tensor, loss: Loss, eps: float, norm: Norm, steps: int, eot: int, within: float | None = None
) -> _Climb:  # fmt: skip
    """One run of APGD in one ball from `start`; returns where the samples are that are left. They leave as they fall.

    within: of a ball that is larger than the budget, the budget. Its iterates do not count; after 0, 1, 2, 4, … steps what is nearest to them in the
    budget is looked at, so that those that fall easily need not come all the way in.
    """
    at, candidates = start.clamp(0.0, 1.0), within is None
    seen = search.climb(rows, at, loss, candidates=candidates, eot=eot)
    state = _begun(rows, search.images[rows], at, seen, eps, norm)
    window, since = max(int((0.04 if norm == "l1" else 0.22) * steps), 1), 0
    for turn in range(steps):
        if within is not None and turn & (turn - 1) == 0:
            search.look(state.rows, state.images + project_in_box(state.images, state.at - state.images, within, norm))
        state = state.keep(~search.fallen[state.rows])
        if not len(state.rows):
            break
        _step(state, eps, norm, _MOMENTUM if turn else 1.0)
        _note(state, search.climb(state.rows, state.at, loss, candidates=candidates, eot=eot))
        since += 1
        if since == window:
            _check_sparsity(state, eps) if norm == "l1" else _check_progress(state, window)
            window = window if norm == "l1" else max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
            since = 0
    if candidates:
        search.leave(state.rows, state.best)
    return state


def _begun(rows: Tensor, images: Tensor, at: Tensor, seen: Seen, eps: float, norm: Norm) -> _Climb:
    ones = torch.ones_like(seen.loss)
    count = norms.size(at - images, "values").to(ones)
    return _Climb(
        rows, images, at, at, seen.gradient, torch.zeros_like(ones), at, seen.gradient, seen.loss, seen.loss, ones.bool(), torch.zeros_like(ones),
        eps * (1.0 if norm == "l1" else 2.0) * ones, count / at[0].numel() / _SPARSER, count,
    )  # fmt: skip


def _step(state: _Climb, eps: float, norm: Norm, momentum: float) -> None:
    """Moves every sample: along its gradient, and, but for l1, on in the direction it came from."""
    direction = _sparse(state) if norm == "l1" else norms.steepest(state.gradient, norm)
    moved = state.at + norms.per_sample(state.step, direction) * direction
    moved = state.images + norms.project_in_box(state.images, moved - state.images, eps, norm)
    if norm != "l1" and momentum < 1.0:
        moved = state.at + (moved - state.at) * momentum + (state.at - state.before) * (1.0 - momentum)
        moved = state.images + norms.project_in_box(state.images, moved - state.images, eps, norm)
    state.before, state.at = state.at, moved.clamp_(0.0, 1.0)


def _sparse(state: _Climb) -> Tensor:
    """The signs of each gradient's largest values, a share of them that adapts, of l1 length 1."""
    flat = state.gradient.flatten(1)
    places = ((1.0 - state.share) * flat.shape[1]).clamp(0, flat.shape[1] - 1).long()
    least = flat.abs().sort(dim=1).values.gather(1, places[:, None])
    chosen = torch.where(flat.abs() >= least, flat.sign(), 0.0)
    return (chosen / chosen.abs().sum(dim=1, keepdim=True).clamp_min(1.0)).view_as(state.gradient)


def _note(state: _Climb, seen: Seen) -> None:
    """Takes in what the model said of where the samples are now."""
    better = seen.loss > state.best_loss
    state.rises = state.rises + (seen.loss > state.loss)
    state.loss, state.gradient = seen.loss, seen.gradient
    mask = norms.per_sample(better, state.at)
    state.best = torch.where(mask, state.at, state.best)
    state.best_gradient = torch.where(mask, seen.gradient, state.best_gradient)
    state.best_loss = torch.where(better, seen.loss, state.best_loss)


def _check_progress(state: _Climb, window: int) -> None:
    """Halves the step, from the best iterate on, where too few steps of the window raised the loss, or none beat the best at an unchanged step."""
    stuck = ~state.halved & (state.checked_loss >= state.best_loss)
    halve = (state.rises <= window * _PROGRESS) | stuck
    state.step = torch.where(halve, state.step / 2.0, state.step)
    state.halved, state.checked_loss, state.rises = halve, state.best_loss, torch.zeros_like(state.rises)
    _return_to_best(state, halve)


def _check_sparsity(state: _Climb, eps: float) -> None:
    """l1: where the best iterate has become sparser the step is whole again, from there on; elsewhere it shrinks."""
    count = norms.size(state.best - state.images, "values").to(state.step)
    sparser = count < 0.95 * state.count
    state.share = count / state.at[0].numel() / _SPARSER
    state.step = torch.where(sparser, eps, state.step / _SPARSER).clamp(eps / 10.0, eps)
    state.count = count
    _return_to_best(state, sparser)


def _return_to_best(state: _Climb, which: Tensor) -> None:
    mask = norms.per_sample(which, state.at)
    state.at = torch.where(mask, state.best, state.at)
    state.gradient = torch.where(mask, state.best_gradient, state.gradient)
