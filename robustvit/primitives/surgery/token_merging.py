"""How policies choose tokens and pair them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.surgery.tokens import Tokens

_ROUNDING = 1e-9  # of a product of a share and a whole number, which must not come out above the whole number that it is
LEAST_WEIGHT = 1e-12  # of a token that is averaged: attention may be zero in float32, and a mean needs a weight


def share_of(count: int, share: float) -> int:
    """A share of so many tokens, rounded up. share: in (0, 1]."""
    return math.ceil(share * count - _ROUNDING)


def by_attention(tokens: Tokens, kept: int) -> tuple[Tokens, Tokens]:
    """The `kept` patch tokens that the class token attends to most, and the others, both by falling attention, the first of equal ones."""
    order = tokens.patch(tokens.columns["class_attention"]).argsort(dim=1, descending=True, stable=True)
    return tokens.take(order[:, :kept]), tokens.take(order[:, kept:])


def merge_pairs(tokens: Tokens, metric: Tensor, r: int, weights: Tensor | None = None) -> Tokens:
    """Tokens with r of those at even positions merged into the most similar ones at odd positions (Bolya et al. 2023).

    First those at even positions that are left, then those at odd ones, each at the place of the one into which others were merged.
    metric: (N, T − prefix, d), compared by cosine. Positions count the prefix. weights: (N, T − prefix) > 0, default the sizes.
    """
    first = tokens.prefix % 2  # the first patch token at an even position
    unit = functional.normalize(metric, dim=-1)
    similarity = unit[:, first::2] @ unit[:, 1 - first :: 2].transpose(1, 2)
    best = similarity.max(dim=2)
    chosen = best.values.argsort(dim=1, descending=True, stable=True)[:, :r]
    merged = torch.zeros_like(best.indices, dtype=torch.bool).scatter(1, chosen, True)
    left = similarity.shape[1] - r
    group = torch.empty_like(tokens.places)
    group[:, first::2] = torch.where(merged, left + best.indices, (~merged).cumsum(dim=1) - 1)
    group[:, 1 - first :: 2] = left + torch.arange(similarity.shape[2], device=metric.device)
    kept = merged.to(torch.int64).argsort(dim=1, stable=True)[:, :left]
    places = torch.cat((tokens.places[:, first::2].gather(1, kept), tokens.places[:, 1 - first :: 2]), dim=1)
    return tokens.merge(group, left + similarity.shape[2], weights, places)
