"""An attack on what a model spends: images that make a token reducer keep more tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import bounds
from robustvit.primitives.surgery.recorded.token_records import recorded_costs, refusal
from robustvit.spec.registry import attack

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000)  # queries after which the share of the image that a square covers is halved


@attack(
    severity="eps", family="cost", source="after Yehezkel et al. 2024 (DeSparsify) and Navaneet et al. 2024 (SlowFormer); random search",
    url="https://arxiv.org/abs/2402.02554", passes=("steps",),
    rules="Its success is what the image costs: compare gmacs and tokens of its cell with those of clean. Robust accuracy under it counts "
    "what is misclassified on the way, which it does not look for. Adaptive reducers (ats, ltmp) can be inflated; fixed counts cannot.",
)  # fmt: skip
def inflate(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, steps: Count = 300, share: Annotated[float, Gt(0), Lt(1)] = 0.8,
) -> Crafted:  # fmt: skip
    """Inflates the operations of a model that computes on fewer tokens: keeps random squares of shrinking sizes that make it spend more.

    eps: radius in linf. steps: queries after the first, for every sample. share: share of the image that a square covers at first. Uses no
    gradient, because the number of tokens has none. Differs from DeSparsify and SlowFormer, which follow gradients of relaxed scores of
    each reducer: this takes any reducer as it is. Raises HostRefused for a model that computes on all its tokens.
    """
    search = Search(model, images, labels, draws, early=False)
    rows, (low, high) = torch.arange(len(images), device=images.device), bounds(images, eps)
    stripes = draws.at("start").uniform(images.shape[1], 1, images.shape[3]).to(images) < 0.5
    best, state = _spent(search, rows, images), images.clone()
    for step in range(steps + 1):
        proposal = torch.where(stripes, low, high) if step == 0 else square(state, low, high, draws.at(step), side_at(images, step, share))
        found = _spent(search, rows, proposal)
        better = found > best
        state[better], best[better] = proposal[better], found[better]
    search.keep_best(rows, state)
    return search.outcome()


def _spent(search: Search, rows: Tensor, pixels: Tensor) -> Tensor:
    """(n,) the operations of each image, in 10⁹."""
    return gmacs_of(search.model, len(rows), lambda: search.query(rows, pixels)).to(pixels.device)


def gmacs_of(model: Classifier, rows: int, query: Callable[[], object]) -> Tensor:
    """(rows,) the operations of each image that `query` gives the model, in 10⁹. Raises HostRefused where it computes on all its tokens."""
    with recorded_costs(model, rows) as found:
        query()
    if not found:
        raise HostRefused(refusal(model))
    return found["value_gmacs"]


def side_at(images: Tensor, step: int, share: float) -> int:
    """The side of a step's square in pixels. images: (…, H, W); share: of their area that the first squares cover."""
    covered = share / 2 ** sum(step > turn for turn in _HALVED_AFTER)
    height, width = images.shape[-2:]
    return min(max(round(math.sqrt(covered * height * width)), 1), height, width)


def square(state: Tensor, low: Tensor, high: Tensor, draws: Draws, side: int) -> Tensor:
    """Each sample's state (N, C, H, W) with one square of `low` or `high`, drawn for each channel."""
    channels, height, width = state.shape[1:]
    uniforms = draws.uniform(2 + channels).to(state)
    top, left = ((uniforms[:, i] * (size - side + 1)).long() for i, size in enumerate((height, width)))
    down, across = (torch.arange(size, device=state.device) - start[:, None] for start, size in ((top, height), (left, width)))
    inside = ((down >= 0) & (down < side))[:, None, :, None] & ((across >= 0) & (across < side))[:, None, None, :]
    ends = torch.where(uniforms[:, 2:, None, None] < 0.5, low, high)
    return torch.where(inside, ends, state)
