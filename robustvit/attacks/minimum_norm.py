"""Minimum-norm attacks: the nearest image that a model gets wrong, whatever its distance. DDN, FMN, and Carlini and Wagner's."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from robustvit.attacks.losses import cross_entropy, margin
from robustvit.primitives.attack_search import Crafted, Loss, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, per_sample, project, project_l0, size
from robustvit.spec.registry import attack

Radius = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0), Lt(1)]

_TINY = 1e-12
_BEYOND = 1.0 + 1e-4  # past the boundary that FMN expects: on it, a linear model would never fall
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


@attack(family="minimum-norm", source="Rony et al. 2019", url="https://arxiv.org/abs/1811.09600", citation=_DDN)
def ddn(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, steps: Count = 100, gamma: Rate = 0.05, radius: Radius = 1.0
) -> Crafted:  # fmt: skip
    """DDN: steps along the cross-entropy's gradient on a sphere in l2 that shrinks while the image is adversarial and grows while it is not.

    steps: gradients of each sample. gamma: by what share the sphere changes. radius: of the first, in pixel units. Step lengths fall from 1 to 0.01 along a
    cosine. Pixels are not rounded to 8 bits. Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="l2")
    rows = search.standing
    delta, reach = torch.zeros_like(images), torch.full((len(images),), radius, device=images.device)
    at = images
    for turn in range(steps):
        seen = search.climb(rows, at, _loss(search))
        wrong = seen.logits.argmax(dim=1) != labels
        direction = _unit(seen.gradient)
        delta = delta + _cosine(turn, steps, 1.0, 0.01) * direction
        reach = torch.where(wrong, reach * (1.0 - gamma), reach * (1.0 + gamma)) if turn else reach
        delta = per_sample(reach, delta) * _unit(delta)
        at = (images + delta).clamp(0.0, 1.0)
        delta = at - images
    search.look(rows, at)
    return search.outcome()


@attack(family="minimum-norm", source="Pintor et al. 2021", url="https://arxiv.org/abs/2102.12827", citation=_FMN)
def fmn(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, norm: Norm | Literal["l0"] = "l2", steps: Count = 100, gamma: Rate = 0.05, step: Radius = 1.0,
) -> Crafted:  # fmt: skip
    """FMN: steps along the margin's gradient, projected onto a ball that adapts to where the boundary seems to be.

    norm: of the ball; l0 counts the values that change, not the pixels. steps: gradients of each sample. gamma: by what share the ball changes, falling
    to 0.001 along a cosine. step: the first step's length in l2, falling to a hundredth. Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="values" if norm == "l0" else norm)
    rows = search.standing
    delta, reach = torch.zeros_like(images), torch.full((len(images),), torch.inf, device=images.device)
    for turn in range(steps):
        at = (images + delta).clamp(0.0, 1.0)
        seen = search.climb(rows, at, lambda logits, rows: margin(logits, labels[rows]))
        reach = _reach(search, delta, seen.loss, seen.gradient, reach, norm, _cosine(turn, steps, gamma, 0.001))
        moved = delta + _cosine(turn, steps, step, step / 100) * _unit(seen.gradient)
        delta = (images + _onto(moved, reach, norm)).clamp(0.0, 1.0) - images
    search.look(rows, images + delta)
    return search.outcome()


@attack(family="minimum-norm", source="Carlini and Wagner 2017", url="https://arxiv.org/abs/1608.04644", citation=_CW)
def cw(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, steps: Count = 200, searches: Count = 5, rate: Radius = 0.01, confidence: Annotated[float, Ge(0)] = 0.0, weight: Radius = 1e-3,
) -> Crafted:  # fmt: skip
    """Carlini and Wagner's l2 attack: Adam on squared distance plus a weighted margin, in a variable whose tanh is the image.

    steps: gradients of each search. searches: over the weight, which begins at `weight`, grows tenfold where nothing is found and is halved between bounds
    where something is. rate: Adam's. confidence: by how much the margin is to be exceeded. Deterministic.
    """
    search = Search(model, images, labels, draws, nearest="l2")
    low, high = torch.zeros(len(images), device=images.device), torch.full((len(images),), torch.inf, device=images.device)
    chosen = torch.full_like(low, weight)
    for _ in range(searches):
        found = _minimise(search, chosen, steps, rate, confidence)
        high, low = torch.where(found, chosen, high), torch.where(found, low, chosen)
        chosen = torch.where(torch.isinf(high), chosen * 10.0, (low + high.nan_to_num(posinf=0.0)) / 2.0)
    return search.outcome()


def _minimise(search: Search, weight: Tensor, steps: int, rate: float, confidence: float) -> Tensor:
    """One search of Carlini and Wagner's; where it found anything, (N,)."""
    images, rows = search.images, torch.arange(len(search.images), device=search.images.device)
    variable = torch.atanh((images * 2.0 - 1.0).clamp(-1.0 + 1e-6, 1.0 - 1e-6))
    mean, spread = torch.zeros_like(variable), torch.zeros_like(variable)
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for turn in range(1, steps + 1):
        at = (torch.tanh(variable) + 1.0) / 2.0
        seen = search.climb(rows, at, lambda logits, rows: margin(logits, search.labels[rows]).clamp(max=confidence))
        found |= seen.logits.argmax(dim=1) != search.labels
        slope = 2.0 * (at - images) - per_sample(weight, at) * seen.gradient
        gradient = slope * (1.0 - torch.tanh(variable).square()) / 2.0
        mean, spread = 0.9 * mean + 0.1 * gradient, 0.999 * spread + 0.001 * gradient.square()
        variable = variable - rate * (mean / (1.0 - 0.9**turn)) / ((spread / (1.0 - 0.999**turn)).sqrt() + 1e-8)
    return found


def _loss(search: Search) -> Loss:
    return lambda logits, rows: cross_entropy(logits, search.labels[rows])


def _reach(search: Search, delta: Tensor, gap: Tensor, gradient: Tensor, reach: Tensor, norm: str, gamma: float) -> Tensor:
    """(N,) the next radius: smaller after a success, larger after a failure, and before the first success as far as the boundary looks."""
    wrong = gap > 0
    length = size(delta, "values" if norm == "l0" else norm).to(reach)  # type: ignore[arg-type]
    best = search.size.to(reach)
    dual = {"linf": 1.0, "l2": 2.0}.get(norm, math.inf)
    ahead = (length + gap.abs() / gradient.flatten(1).norm(p=dual, dim=1).clamp_min(_TINY)) * _BEYOND
    less, more = reach * (1.0 - gamma), reach * (1.0 + gamma)
    if norm == "l0":
        less, more, ahead = torch.minimum(reach - 1.0, less.floor()), torch.maximum(reach + 1.0, more.floor()), ahead.ceil()
    return torch.where(wrong, torch.minimum(less, best), torch.where(search.fallen, more, ahead)).clamp_min(0.0)


def _onto(delta: Tensor, reach: Tensor, norm: str) -> Tensor:
    """The perturbation projected onto each sample's own ball."""
    return project_l0(delta, reach) if norm == "l0" else project(delta, reach, norm)  # type: ignore[arg-type]


def _unit(vectors: Tensor) -> Tensor:
    return vectors / per_sample(vectors.flatten(1).norm(dim=1), vectors).clamp_min(_TINY)


def _cosine(turn: int, steps: int, first: float, last: float) -> float:
    return last + (first - last) * (1.0 + math.cos(math.pi * turn / steps)) / 2.0
