"""An order of the places of an image that no circular shift changes: how the image looks from each of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def view_names(levels: Tensor) -> Iterator[Tensor]:
    """(H, W) int64: ever finer ranks of the views of one image from its places, until they are those of the whole image.

    levels: (C, H, W) int64. The view from a place is the image rolled circularly until that place comes first; views are compared in
    lexicographic order, of blocks that double in width and then in height. Equal values at the end belong to places between which a shift
    changes nothing; earlier ones to views that begin alike, and later ones never reverse an order. Names are ranks among all views of the
    image, so that those of a shifted image are the names, shifted. Karp, Miller and Rosenberg 1972: O(HW log²(HW)) steps.
    """
    names = _ranks(levels[0])
    for channel in levels[1:]:
        names = _pairs(names, _ranks(channel))
    yield names
    for axis in (1, 0):
        width = 1
        while width < levels.shape[1 + axis]:
            names = _pairs(names, names.roll(-width, dims=axis))
            width *= 2
            yield names


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """The ranks of pairs of ranks in lexicographic order."""
    return _ranks(first * (int(second.max()) + 1) + second)


def _ranks(values: Tensor) -> Tensor:
    """The rank of each value among the distinct ones, from 0."""
    ranks: Tensor = torch.unique(values, return_inverse=True)[1]
    return ranks
