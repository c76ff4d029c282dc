"""How alike two attribution maps of an image are: rank correlation, and overlap of the patches that count most."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.attribution.methods import patch_order, patches_of

_ROWS = 16  # whose ranks are computed at once, from a table of patches by patches


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """(N,) Spearman's ρ of maps (N, rows, columns), equal values having their mean rank; NaN where all values of a map are equal."""
    one, other = (mean_ranks(some.flatten(1)) for some in (first, second))
    one, other = (some - some.mean(dim=1, keepdim=True) for some in (one, other))
    return (one * other).sum(dim=1) / (one.square().sum(dim=1) * other.square().sum(dim=1)).sqrt()


def mean_ranks(values: Tensor) -> Tensor:
    """(N, P) float64 ranks from 1, the least first; equal values have their mean rank."""
    parts = []
    for some in torch.split(values, _ROWS):
        own, others = some[:, :, None], some[:, None, :]
        parts.append((others < own).sum(dim=2).double() + ((others == own).sum(dim=2).double() + 1) / 2)
    return torch.cat(parts)


def top_patches(maps: Tensor, count: int) -> Tensor:
    """(N, P) bool: the `count` patches that count most, of equal ones the earlier. maps: (N, rows, columns)."""
    order = patch_order(maps)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)


def top_overlap(first: Tensor, second: Tensor, share: float) -> Tensor:
    """(N,) intersection over union of the top `share` of the patches of maps (N, rows, columns), see `patches_of`."""
    count = patches_of(share, first[0].numel())
    one, other = top_patches(first, count), top_patches(second, count)
    return (one & other).sum(dim=1).double() / (one | other).sum(dim=1)
