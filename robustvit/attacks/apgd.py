"""APGD (Auto-PGD): projected gradient ascent with momentum and a step size that adapts to the progress of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustvit.attacks.losses import Target, cross_entropy_loss, dlr_loss, dlr_towards, wrong_classes
from robustvit.primitives import norms
from robustvit.primitives.attack_search import Crafted, Evaluation, Loss, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, project_in_box, surface_start
from robustvit.spec.registry import attack

CITATION = """@inproceedings{croce2020reliable,
  title={Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-Free Attacks},
  author={Croce, Francesco and Hein, Matthias},
  booktitle={International Conference on Machine Learning},
  year={2020}
}"""
_URL = "https://arxiv.org/abs/2003.01690"
_MOMENTUM = 0.75
_SPARSER = 1.5  # l1: divides the share of coordinates that a step moves, and a step size that did not help
_PROGRESS = 0.75  # share of the steps in a window that must raise the loss
_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # l1: factor on eps and share of the steps of each ball, from the largest to the budget


@attack(
    severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION,
    passes=("steps", "restarts", "eot"), version=4,
)  # fmt: skip
def apgd_ce(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, eot: Count = 1,
    target: Target = "label",
) -> Crafted:  # fmt: skip
    """APGD (Croce and Hein 2020, in l1 2021) on the cross-entropy.

    eps: radius in pixel units; write 4/255. steps: of each run. restarts: random starts; each attacks the samples that are still robust.
    eot: gradients averaged at each step, for models with randomness of their own. target: as for pgd. In l1 each run goes through balls of
    radius 3, 2 and 1 eps, as in the l1 paper. Losses and gradients are those of the log odds, with which the cross-entropy rises and falls:
    they take the same steps, and go on where it rounds to 0. Differs from the papers: with eot all draws weigh alike, where the mean
    cross-entropy weighs each by 1 − p(label); a sample stops at its first misclassified iterate, which changes no success; and random
    starts belong to samples. As in the authors' code, exactly three quarters of a window's steps are too few, and steps of balls are
    rounded. Unlike there, the first step of a run counts where it raised the loss, as in the paper, and not where the loss is above 0.
    """
    search = Search(model, images, labels, draws)
    return _restarted(search, cross_entropy_loss(search, target), eps, norm, steps, restarts, eot)


@attack(
    severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION,
    passes=("steps", "restarts", "eot"), version=4,
)  # fmt: skip
def apgd_dlr(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, eot: Count = 1,
    target: Target = "label",
) -> Crafted:  # fmt: skip
    """APGD (Croce and Hein 2020, in l1 2021) on the difference of logits ratio, which does not change when logits are scaled or shifted.

    target: as for pgd; with one the ratio is the targeted, as in apgd_t. Other parameters, and a sample's early stop and random starts, as
    for apgd_ce.
    """
    search = Search(model, images, labels, draws)
    return _restarted(search, dlr_loss(search, target), eps, norm, steps, restarts, eot)


@attack(
    severity="eps", family="white-box", source="Croce and Hein 2020; in l1 Croce and Hein 2021", url=_URL, citation=CITATION,
    passes=("steps", "restarts", "eot", "targets"), version=4,
)  # fmt: skip
def apgd_t(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 100, restarts: Count = 1, targets: Count = 9, eot: Count = 1,
) -> Crafted:  # fmt: skip
    """APGD (Croce and Hein 2020) on the targeted difference of logits ratio, one run for each of the most likely wrong classes.

    targets: how many classes, by their logits on the clean image; at most all but one. The ratio takes four classes; of three, see
    `losses.dlr_targeted`. Other parameters, and a sample's early stop and random starts, as for apgd_ce.
    """
    search = Search(model, images, labels, draws)
    ranked = wrong_classes(search)
    for restart in range(restarts):
        for turn in range(min(targets, ranked.shape[1])):
            rows = search.active
            _run(search, rows, dlr_towards(labels, ranked[:, turn]), draws.at(f"{restart}/target {turn}")[rows], eps, norm, steps, eot)
    return search.outcome()


def _restarted(search: Search, loss: Loss, eps: float, norm: Norm, steps: int, restarts: int, eot: int) -> Crafted:
    for restart in range(restarts):
        rows = search.active
        _run(search, rows, loss, search.draws.at(restart)[rows], eps, norm, steps, eot)
    return search.outcome()


def _run(search: Search, rows: Tensor, loss: Loss, draws: Draws, eps: float, norm: Norm, steps: int, eot: int) -> None:
    """One run from a random start on the samples `rows`; in l1 through three balls, each from the best iterate of the one before."""
    if not len(rows):
        return
    images = search.images[rows]
    if norm != "l1":
        _ascend(search, rows, images + surface_start(images, eps, norm, draws), loss, eps, norm, steps, eot)
        return
    start = images + surface_start(images, _RADII[0][0] * eps, norm, draws)
    for (factor, _), count in zip(_RADII, steps_in_balls(steps), strict=True):
        if not len(rows):
            return
        start = images + project_in_box(images, start - images, factor * eps, norm)
        state = _ascend(search, rows, start, loss, factor * eps, norm, count, eot, None if factor == 1.0 else eps)
        rows, images, start = state.rows, state.images, state.best


def steps_in_balls(steps: int) -> list[int]:
    """The steps of an l1 run in each ball: as its authors round them, up in the larger ones; one step in all is one in the largest."""
    first = math.ceil(_RADII[0][1] * steps)
    second = min(math.ceil(_RADII[1][1] * steps), steps - first)
    return [first, second, steps - first - second]


@dataclass
class _State:
    """The state of a run, for the n samples left in it. `best` is the iterate of the highest loss so far."""

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
    halved: Tensor  # whether the last check halved the step size
    rises: Tensor  # number of steps since then that raised the loss
    step: Tensor
    share: Tensor  # l1: share of the coordinates that a step moves
    count: Tensor  # l1: number of values in which the best iterate differed from the image at the last check

    def keep(self, mask: Tensor) -> _State:
        """The samples selected by a boolean mask."""
        return self if bool(mask.all()) else _State(*(getattr(self, one.name)[mask] for one in fields(self)))


def _ascend(
    search: Search, rows: Tensor, start: Tensor, loss: Loss, eps: float, norm: Norm, steps: int, eot: int, within: float | None = None
) -> _State:  # fmt: skip
    """One run of APGD in one ball from `start`; returns the state of the samples that stayed robust.

    within: the budget, where the ball is larger than the budget. Its iterates are then no candidates; after 0, 1, 2, 4, … steps their
    projection onto the budget is queried, so that samples that are easily fooled stop early.
    """
    at, candidates = start.clamp(0.0, 1.0), within is None
    evaluation = search.query_gradient(rows, at, loss, candidates=candidates, eot=eot)
    state = _initial(rows, search.images[rows], at, evaluation, eps, norm)
    window, since = max(int((0.04 if norm == "l1" else 0.22) * steps), 1), 0
    for turn in range(steps):
        if within is not None and turn & (turn - 1) == 0:
            search.query(state.rows, state.images + project_in_box(state.images, state.at - state.images, within, norm))
        state = state.keep(~search.misclassified[state.rows])
        if not len(state.rows):
            break
        _step(state, eps, norm, _MOMENTUM if turn else 1.0)
        _record(state, search.query_gradient(state.rows, state.at, loss, candidates=candidates, eot=eot))
        since += 1
        if since == window:
            _check_sparsity(state, eps) if norm == "l1" else _check_progress(state, window)
            window = window if norm == "l1" else max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
            since = 0
    if candidates:
        search.keep_best(state.rows, state.best)
    return state


def _initial(rows: Tensor, images: Tensor, at: Tensor, evaluation: Evaluation, eps: float, norm: Norm) -> _State:
    _, loss, gradient = evaluation
    ones = at.new_ones(len(at))  # in the precision of pixels, whatever that of the losses
    count = norms.size(at - images, "values").to(ones)
    return _State(
        rows, images, at, at, gradient, loss, at, gradient, loss, loss, ones.bool(), torch.zeros_like(ones),
        eps * (1.0 if norm == "l1" else 2.0) * ones, count / at[0].numel() / _SPARSER, count,
    )  # fmt: skip


def _step(state: _State, eps: float, norm: Norm, momentum: float) -> None:
    """Moves every sample along its gradient and, except in l1, further along its last step (momentum)."""
    direction = _sparse(state) if norm == "l1" else norms.steepest(state.gradient, norm)
    moved = state.at + norms.per_sample(state.step, direction) * direction
    moved = state.images + norms.project_in_box(state.images, moved - state.images, eps, norm)
    if norm != "l1" and momentum < 1.0:
        moved = state.at + (moved - state.at) * momentum + (state.at - state.before) * (1.0 - momentum)
        moved = state.images + norms.project_in_box(state.images, moved - state.images, eps, norm)
    state.before, state.at = state.at, moved.clamp_(0.0, 1.0)


def _sparse(state: _State) -> Tensor:
    """The signs of the largest `share` of each gradient's values, scaled to l1 norm 1."""
    flat = state.gradient.flatten(1)
    places = ((1.0 - state.share) * flat.shape[1]).clamp(0, flat.shape[1] - 1).long()
    least = flat.abs().sort(dim=1).values.gather(1, places[:, None])
    chosen = torch.where(flat.abs() >= least, flat.sign(), 0.0)
    return (chosen / chosen.abs().sum(dim=1, keepdim=True).clamp_min(1.0)).view_as(state.gradient)


def _record(state: _State, evaluation: Evaluation) -> None:
    """Updates the state with the evaluation at its current iterates."""
    _, loss, gradient = evaluation
    better = loss > state.best_loss
    state.rises = state.rises + (loss > state.loss)
    state.loss, state.gradient = loss, gradient
    mask = norms.per_sample(better, state.at)
    state.best = torch.where(mask, state.at, state.best)
    state.best_gradient = torch.where(mask, gradient, state.best_gradient)
    state.best_loss = torch.where(better, loss, state.best_loss)


def _check_progress(state: _State, window: int) -> None:
    """Halves the step size and restarts from the best iterate, where progress is too slow.

    That is where too few steps of the window raised the loss, or the best loss did not improve at a step size that the last check left
    unchanged.
    """
    stuck = ~state.halved & (state.checked_loss >= state.best_loss)
    halve = (state.rises <= window * _PROGRESS) | stuck
    state.step = torch.where(halve, state.step / 2.0, state.step)
    state.halved, state.checked_loss, state.rises = halve, state.best_loss, torch.zeros_like(state.rises)
    _return_to_best(state, halve)


def _check_sparsity(state: _State, eps: float) -> None:
    """l1: resets the step size to eps and restarts from the best iterate where that has become sparser; elsewhere shrinks the step size."""
    count = norms.size(state.best - state.images, "values").to(state.step)
    sparser = count < 0.95 * state.count
    state.share = count / state.at[0].numel() / _SPARSER
    state.step = torch.where(sparser, eps, state.step / _SPARSER).clamp(eps / 10.0, eps)
    state.count = count
    _return_to_best(state, sparser)


def _return_to_best(state: _State, which: Tensor) -> None:
    mask = norms.per_sample(which, state.at)
    state.at = torch.where(mask, state.best, state.at)
    state.gradient = torch.where(mask, state.best_gradient, state.gradient)
