"""Square attack: black-box random search with square-shaped changes; uses no gradient."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from robustvit.attacks.losses import margin
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, bounds, per_sample, project_in_box
from robustvit.spec.registry import attack

_CITATION = """@inproceedings{andriushchenko2020square,
  title={Square Attack: A Query-Efficient Black-Box Adversarial Attack via Random Search},
  author={Andriushchenko, Maksym and Croce, Francesco and Flammarion, Nicolas and Hein, Matthias},
  booktitle={European Conference on Computer Vision},
  year={2020}
}"""
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which the share of the image that changes is halved
_AT_ONCE = 64  # queries whose random numbers are drawn together
_TINY = 1e-12


@attack(
    severity="eps", family="black-box", source="Andriushchenko et al. 2020; in l1 Croce and Hein 2021", url="https://arxiv.org/abs/1912.00049",
    citation=_CITATION,
    passes=("steps",),
)  # fmt: skip
def square(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 5000, share: Annotated[float, Gt(0), Lt(1)] = 0.8,
) -> Crafted:  # fmt: skip
    """Square attack (Andriushchenko et al. 2020) on the margin: keeps random squares of shrinking sizes that increase it.

    eps: radius in pixel units; write 4/255. steps: queries after the first. share: share of the image that a square covers at first.
    Differs from the paper: the schedule is counted in queries whatever `steps` is, every sample has its own squares, where the reference
    code draws one for a whole batch, and a sample stops at its first misclassified query.
    """
    search = Search(model, images, labels, draws)
    rows, start = search.active, images
    state = _initial(images, eps, norm, draws)
    best, box = margin(search.query(rows, state), labels), bounds(images, eps)
    for step in range(steps):
        if step % _AT_ONCE == 0:
            uniforms = draws.at(step // _AT_ONCE).uniform(_AT_ONCE, 5 + images.shape[1]).to(images.device)
        active = search.is_active(rows)
        if not bool(active.all()):
            rows, start, state, best = rows[active], start[active], state[active], best[active]
            box = bounds(start, eps)
        if not len(rows):
            break
        covered = share / 2 ** sum(step > turn for turn in _HALVED_AFTER)
        proposal = _proposed(start, box, state, uniforms[rows, step % _AT_ONCE], eps, norm, covered)
        margins = margin(search.query(rows, proposal), labels[rows])
        better = (margins > best).nonzero().flatten()
        if len(better):
            state[better], best[better] = proposal[better], margins[better]
    search.keep_best(rows, state)
    return search.outcome()


def _initial(images: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """The first iterate: vertical stripes of one pixel (linf), or a pattern of hills and valleys on a five by five grid."""
    _, channels, height, width = images.shape
    keyed = draws.at("start")
    if norm == "linf":
        stripes = torch.where(keyed.uniform(channels, 1, width).to(images) < 0.5, -eps, eps)
        return (images + stripes).clamp_(0.0, 1.0)
    side = max(height // 5, 1)
    delta = torch.zeros_like(images)
    signs = torch.where(keyed.uniform(height // side, width // side, channels, 1, 1).to(images) < 0.5, -1.0, 1.0)
    turned = keyed.at("turn").uniform(height // side, width // side, 1, 1, 1).to(images) < 0.5
    wave = _wave(side, norm, images)
    top = (height - side * 5) // 2 if height >= 5 else 0
    for i in range(height // side):
        for j in range(width // side):
            place = delta[:, :, top + i * side : top + (i + 1) * side, top + j * side : top + (j + 1) * side]
            pattern = torch.where(turned[:, i, j], wave.T, wave) * signs[:, i, j]
            place += pattern[:, :, : place.shape[2], : place.shape[3]]
    return images + _fitted(images, delta, eps, norm)


def _proposed(images: Tensor, box: tuple[Tensor, Tensor], state: Tensor, uniforms: Tensor, eps: float, norm: Norm, share: float) -> Tensor:
    """Each sample's state with one square changed.

    box: the ends of its linf ball. uniforms: (n, 5 + C) numbers in [0, 1): two positions, an orientation, and a sign for each channel.
    """
    channels, height, width = images.shape[1:]
    side = max(round(math.sqrt(share * height * width)), 1 if norm == "linf" else 3)
    side = min(side + (norm != "linf" and side % 2 == 0), height, width)
    signs = torch.where(uniforms[:, 5 : 5 + channels] < 0.5, -1.0, 1.0)[:, :, None, None].to(images)
    here = _window(uniforms[:, 0], uniforms[:, 1], side, images)
    if norm == "linf":
        place, proposal = _place(here, channels), state.clone()
        proposal[place] = torch.where(signs > 0, box[1][place], box[0][place])  # a step of 2 eps always ends at one of them
        return proposal
    there = _window(uniforms[:, 2], uniforms[:, 3], side, images)
    delta = state - images
    wave = _wave(side, norm, images)
    pattern = torch.where((uniforms[:, 4] < 0.5)[:, None, None], wave.T, wave)[:, None] * signs
    return images + _fitted(images, _moved_mass(delta, pattern, here, there, eps, norm), eps, norm)


def _moved_mass(delta: Tensor, pattern: Tensor, here: Tensor, there: Tensor, eps: float, norm: Norm) -> Tensor:
    """The perturbation with the mass of two windows, and the unused part of eps, moved into the first window in a new pattern."""
    channels = delta.shape[1]
    place = _place(here, channels)
    old = delta[place]
    both = delta * (_mask(here, delta) | _mask(there, delta))
    held, total = _mass(both, norm), _length(delta, norm)
    fresh = pattern + old / (_mass(old, norm) + _TINY)
    if norm == "l2":
        budget = ((eps**2 - total.square()).clamp_min(0.0) / channels + held.square()).sqrt()
    else:
        budget = ((eps - total).clamp_min(0.0) / channels + held) * channels
    moved = delta.masked_fill(_mask(there, delta), 0.0)
    moved[place] = fresh / (_mass(fresh, norm) + _TINY) * budget
    return moved


def _fitted(images: Tensor, delta: Tensor, eps: float, norm: Norm) -> Tensor:
    """The perturbation scaled to norm eps (l2) or projected (l1), inside the box."""
    if norm == "l2":
        return (images + delta * (eps / _length(delta, norm).clamp_min(_TINY))).clamp_(0.0, 1.0) - images
    return project_in_box(images, delta, eps * (1.0 - 1e-6), "l1")


def _window(down: Tensor, across: Tensor, side: int, images: Tensor) -> Tensor:
    """The rows and columns, (n, 2, side), of a square whose position two uniform numbers choose."""
    height, width = images.shape[2:]
    steps = torch.arange(side, device=images.device)
    corner = torch.stack((down * (height - side + 1), across * (width - side + 1)), dim=1).long()
    return corner[:, :, None] + steps


def _place(window: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The index of windows in a tensor (n, channels, H, W), which selects (n, channels, side, side)."""
    rows = torch.arange(len(window), device=window.device)[:, None, None, None]
    layer = torch.arange(channels, device=window.device)[None, :, None, None]
    return rows, layer, window[:, 0][:, None, :, None], window[:, 1][:, None, None, :]


def _mask(window: Tensor, images: Tensor) -> Tensor:
    """The pixels of windows, (n, 1, H, W) bool."""
    height, width = images.shape[2:]
    down, across = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (down >= window[:, 0, :1]) & (down <= window[:, 0, -1:])
    columns = (across >= window[:, 1, :1]) & (across <= window[:, 1, -1:])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _wave(side: int, norm: Norm, like: Tensor) -> Tensor:
    """A hill above a valley, (side, side), of norm 1."""
    power = 2 if norm == "l2" else 4
    upper, lower = _hill(side // 2, side, power, like), _hill(side - side // 2, side, power, like)
    parts = [part / _size(part, norm) for part in (upper, -lower) if part.numel()]
    wave = torch.cat(parts)
    return wave / _size(wave, norm)


def _hill(height: int, width: int, power: int, like: Tensor) -> Tensor:
    """A hill, (height, width): concentric rectangles around the middle, the larger the lower."""
    hill = like.new_zeros(height, width)
    top, left = height // 2, width // 2
    for turn in range(max(height // 2, width // 2) + 1):
        hill[max(top - turn, 0) : max(top + turn + 1, 0), max(left - turn, 0) : left + turn + 1] += 1.0 / (turn + 1) ** power
    return hill


def _size(pattern: Tensor, norm: Norm) -> Tensor:
    return (pattern.square().sum().sqrt() if norm == "l2" else pattern.abs().sum()).clamp_min(_TINY)


def _mass(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each channel, (n, C, 1, 1)."""
    return delta.square().sum(dim=(2, 3), keepdim=True).sqrt() if norm == "l2" else delta.abs().sum(dim=(2, 3), keepdim=True)


def _length(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each sample's perturbation, (n, 1, 1, 1)."""
    flat = delta.flatten(1)
    return per_sample(flat.norm(dim=1) if norm == "l2" else flat.abs().sum(dim=1), delta)
