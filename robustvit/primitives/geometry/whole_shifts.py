"""Shifts of images by whole pixels, which copy pixels and compute none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border, bordered


def shifted(images: Tensor, shifts: Tensor, border: Border) -> Tensor:
    """Images (N, C, H, W) moved down and to the right by whole pixels, with the rule for what enters. shifts: (N, 2) int64.

    Every pixel keeps its bits; a shift of (0, 0) gives the image, all of them the very tensor. Neighbours in the batch with one shift are
    moved together.
    """
    runs = [(shift, len(list(alike))) for shift, alike in itertools.groupby(shifts.tolist())]
    if len(runs) == 1:
        (down, right), _ = runs[0]
        return _moved(images, down, right, border)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    start = 0
    for (down, right), count in runs:
        end = start + count
        out[start:end] = _moved(images[start:end], down, right, border)
        start = end
    return out


def nearest_first(down: tuple[int, int], right: tuple[int, int]) -> Tensor:
    """All shifts whose parts lie in these ranges, ends included, (K, 2) int64: the nearest to (0, 0) first.

    By the larger part, then by the sum of both, then row by row.
    """
    whole = all_shifts(down, right)
    size = whole.abs()
    farthest, total = size.amax(dim=1), size.sum(dim=1)
    return whole[(farthest * (int(total.max()) + 1) + total).argsort(stable=True)]


def all_shifts(down: tuple[int, int], right: tuple[int, int]) -> Tensor:
    """All shifts whose parts lie in these ranges, ends included, (K, 2) int64, row by row."""
    return torch.cartesian_prod(*(torch.arange(first, last + 1) for first, last in (down, right)))


def random_shifts(draws: Draws, count: int, down: tuple[int, int], right: tuple[int, int]) -> Tensor:
    """(N, count, 2) int64: shifts drawn uniformly from these ranges, ends included, for each sample."""
    parts = [draws.at(axis).integers(count, low=ends[0], high=ends[1] + 1) for axis, ends in (("down", down), ("right", right))]
    return torch.stack(parts, dim=2)


def refuse_far(pixels: int, size: Sequence[int], who: str, what: str = "a shift") -> None:
    """Raises BadParameter, whose message begins with `who`, for a shift as large as an image. size: (height, width). what: is so large."""
    height, width = size
    if pixels >= min(height, width):
        raise BadParameter(
            f"{who}: {what} of {pixels} pixels is as large as images of {height}x{width}; take at most {min(height, width) - 1}."
        )


def _moved(images: Tensor, down: int, right: int, border: Border) -> Tensor:
    if (down, right) == (0, 0):
        return images
    if border == "circular":
        return images.roll((down, right), (2, 3))
    for dim, by in ((2, down), (3, right)):
        side = images.shape[dim]
        pixel, inside = bordered(torch.arange(side, device=images.device) - by, side, border)
        images = images.index_select(dim, pixel)
        if inside is not None:
            images = torch.where(inside.view((-1, 1) if dim == 2 else (-1,)), images, 0.0)
    return images
