"""Minimum-norm attacks, which search for the nearest adversarial image at any distance: DDN, FMN, and Carlini and Wagner's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from robustvit.attacks.losses import log_odds, margin, untargeted
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, boundary_distance, per_sample, project, project_l0, size, unit
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

Rate = Annotated[float, Gt(0), Lt(1)]

_BEYOND = 1.0 + 1e-4  # slightly past the boundary that FMN estimates: exactly on it, a linear model is never fooled
_DDN = """@inproceedings{rony2019decoupling,
  title={Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses},
  author={Rony, J{\\'e}r{\\^o}me and Hafemann, Luiz G. and Oliveira, Luiz S. and Ben Ayed, Ismail and Sabourin, Robert and Granger, Eric},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2019}
}"""
_FMN = """@inproceedings{pintor2021fast,
  title={Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints},
  author={Pintor, Maura and Roli, Fabio and Brendel, Wieland and Biggio, Battista},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}"""
_CW = """@inproceedings{carlini2017towards,
  title={Towards Evaluating the Robustness of Neural Networks},
  author={Carlini, Nicholas and Wagner, David},
  booktitle={IEEE Symposium on Security and Privacy},
  year={2017}
}"""


@attack(
    family="minimum-norm", source="Rony et al. 2019", url="https://arxiv.org/abs/1811.09600", citation=_DDN, passes=("steps",), version=2
)
def ddn(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, steps: Count = 100, gamma: Rate = 0.05, radius: Radius = 1.0
) -> Crafted:  # fmt: skip
    """DDN (Rony et al. 2019): gradient steps onto an l2 sphere that shrinks after adversarial iterates and grows after others.

    steps: gradients of the cross-entropy, for each sample; their directions are taken from the log odds, whose do not vanish where logits
    are large. gamma: relative change of the radius at a step. radius: the first, in pixel units. The step size decays from 1 to 0.01 along
    a cosine. Differs from the paper: pixels are not rounded to 8 bits, and the first radius is `radius` itself, not 1 + gamma times that.
    Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="l2")
    rows = search.active
    delta, radii = torch.zeros_like(images), torch.full((len(images),), radius, device=images.device)
    at = images
    for turn in range(steps):
        logits, _, gradient = search.query_gradient(rows, at, untargeted(log_odds, labels))
        wrong = logits.argmax(dim=1) != labels
        delta = delta + _cosine(turn, steps, 1.0, 0.01) * unit(gradient)
        radii = torch.where(wrong, radii * (1.0 - gamma), radii * (1.0 + gamma)) if turn else radii
        delta = per_sample(radii, delta) * unit(delta)
        at = (images + delta).clamp(0.0, 1.0)
        delta = at - images
    search.query(rows, at)
    return search.outcome()


@attack(
    family="minimum-norm", source="Pintor et al. 2021", url="https://arxiv.org/abs/2102.12827", citation=_FMN, passes=("steps",), version=3
)
def fmn(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, norm: Norm | Literal["l0"] = "l2", steps: Count = 100, gamma: Rate = 0.05, step: Radius = 1.0,
) -> Crafted:  # fmt: skip
    """FMN (Pintor et al. 2021): gradient steps on the margin in a ball whose radius follows the estimated distance of the boundary.

    norm: of the ball; l0 counts the values that change, not the pixels. steps: gradients of each sample. gamma: relative change of the
    radius at a step, decaying to 0.001 along a cosine. step: l2 length of the first step, decaying to a hundredth of it. Differs from the
    paper: the estimated boundary is overshot by a ten-thousandth of its distance, without which a linear model is never fooled; and until
    an adversarial image is found the radius grows at least as fast as after one, without which the search can come to rest short of the
    boundary, where clipping to [0, 1] takes from each step what the estimate adds. Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="values" if norm == "l0" else norm)
    rows = search.active
    delta, radii = torch.zeros_like(images), torch.full((len(images),), torch.inf, device=images.device)
    for turn in range(steps):
        at = (images + delta).clamp(0.0, 1.0)
        _, gap, gradient = search.query_gradient(rows, at, untargeted(margin, labels))
        radii = _next_radii(search, delta, gap, gradient, radii, norm, _cosine(turn, steps, gamma, 0.001))
        moved = delta + _cosine(turn, steps, step, step / 100) * unit(gradient)
        projected = project_l0(moved, radii) if norm == "l0" else project(moved, radii, norm)
        delta = (images + projected).clamp(0.0, 1.0) - images
    search.query(rows, images + delta)
    return search.outcome()


@attack(
    family="minimum-norm",
    source="Carlini and Wagner 2017",
    url="https://arxiv.org/abs/1608.04644",
    citation=_CW,
    passes="cw_passes",
    version=2,
)
def cw(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, steps: Count = 200, searches: Count = 5, rate: Radius = 0.01, confidence: Annotated[float, Ge(0)] = 0.0, weight: Radius = 1e-3,
) -> Crafted:  # fmt: skip
    """Carlini and Wagner's l2 attack (2017): Adam on the squared distance plus a weighted margin, in tanh-transformed pixels.

    steps: gradients of each search. searches: number of searches over the weight of the margin, which starts at `weight`, is multiplied by
    ten while nothing is found, and is then bisected. rate: Adam's learning rate. confidence: the margin, in logits, that an image must
    reach: the loss is clipped there, and the nearest image that reaches it is kept, before any that is misclassified by less. weight: of
    the margin in units of its gradient's length at the image, so that it does not depend on the scale of logits, where the paper's is the
    margin's own. Differs from the paper also in its defaults, which are far cheaper: there, 20 searches of 10,000 steps. Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="l2", confidence=confidence)
    low, high = torch.zeros(len(images), device=images.device), torch.full((len(images),), torch.inf, device=images.device)
    chosen, slope = torch.full_like(low, weight), _margin_slope(search)
    for _ in range(searches):
        found = _minimise(search, chosen, slope, steps, rate)
        high, low = torch.where(found, chosen, high), torch.where(found, low, chosen)
        chosen = torch.where(torch.isinf(high), chosen * 10.0, (low + high.nan_to_num(posinf=0.0)) / 2.0)
    return search.outcome()


def _margin_slope(search: Search) -> Tensor:
    """The length of the margin's gradient at each image, (N,) float64, and 1 where it is zero. Costs a query and a gradient."""
    rows = torch.arange(len(search.images), device=search.images.device)
    gradient = search.query_gradient(rows, search.images, untargeted(margin, search.labels)).gradient
    length = size(gradient, "l2")
    return length.where(length > 0, 1.0)


def _minimise(search: Search, weight: Tensor, slope: Tensor, steps: int, rate: float) -> Tensor:
    """One search at a fixed `weight` (N,) of the margin over its `slope` (N,); returns whether it found what it looks for, (N,) bool."""
    images, rows = search.images, torch.arange(len(search.images), device=search.images.device)
    variable = torch.atanh((images * 2.0 - 1.0).clamp(-1.0 + 1e-6, 1.0 - 1e-6))
    mean, spread = torch.zeros_like(variable), torch.zeros_like(variable)
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    loss = untargeted(lambda logits, labels: margin(logits, labels).clamp(max=search.confidence), search.labels)
    for turn in range(1, steps + 1):
        at = (torch.tanh(variable) + 1.0) / 2.0
        logits, reached, ascent = search.query_gradient(rows, at, loss)
        found |= (logits.argmax(dim=1) != search.labels) & (reached >= search.confidence)
        descent = 2.0 * (at - images) - per_sample(weight, at) * (ascent / per_sample(slope, at)).to(at)
        gradient = descent * (1.0 - torch.tanh(variable).square()) / 2.0
        mean, spread = 0.9 * mean + 0.1 * gradient, 0.999 * spread + 0.001 * gradient.square()
        variable = variable - rate * (mean / (1.0 - 0.9**turn)) / ((spread / (1.0 - 0.999**turn)).sqrt() + 1e-8)
    return found


def _next_radii(search: Search, delta: Tensor, gap: Tensor, gradient: Tensor, radii: Tensor, norm: str, gamma: float) -> Tensor:
    """The next radii (N,): smaller after an adversarial iterate, else larger; before the first, the estimated distance of the boundary."""
    wrong = gap > 0
    length = size(delta, "values" if norm == "l0" else norm).to(radii)  # type: ignore[arg-type]
    best = search.best_norm.to(radii)
    ahead = (length + boundary_distance(gap, gradient, norm)) * _BEYOND  # type: ignore[arg-type]
    less, more = radii * (1.0 - gamma), radii * (1.0 + gamma)
    if norm == "l0":
        less, more, ahead = torch.minimum(radii - 1.0, less.floor()), torch.maximum(radii + 1.0, more.floor()), ahead.ceil()
    reached = torch.maximum(ahead, more.nan_to_num(posinf=0.0))  # the first has no radius before it to grow from
    return torch.where(wrong, torch.minimum(less, best), torch.where(search.misclassified, more, reached)).clamp_min(0.0)


def _cosine(turn: int, steps: int, first: float, last: float) -> float:
    return last + (first - last) * (1.0 + math.cos(math.pi * turn / steps)) / 2.0


def cw_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """The gradients of all searches, and one at the image."""
    return Passes(gradients=1 + product_of(spec, "steps", "searches"))
