"""Clouds by the diamond-square algorithm (Fournier, Fussell & Carpenter 1982): midpoints of midpoints, each step rougher by less."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_ROUGHNESS = 100.0  # of the first step; it cancels when the map is scaled to [0, 1], but for rounding


def clouds(noise: Tensor, size: int, decay: float) -> Tensor:
    """Height maps (N, size, size) float64 that span [0, 1] and wrap around at their edges.

    noise: (N, size² − 1) uniform in [0, 1), used in order: for each step, the squares' centres, then the two sets of diamonds' centres.
    size: a power of two. decay: what the roughness is divided by at each step; it counts twice, as in the released generator.
    """
    heights = torch.zeros(len(noise), size, size, dtype=torch.float64, device=noise.device)
    if compiled.serve(noise):
        compiled.loops(_LOOPS).clouds(compiled.array(noise, len(noise), -1), decay, _ROUGHNESS, heights.numpy())
    else:
        _rise(heights, noise, decay)
    heights -= heights.amin(dim=(1, 2), keepdim=True)
    return heights.div_(heights.amax(dim=(1, 2), keepdim=True))


def _rise(heights: Tensor, noise: Tensor, decay: float) -> None:
    """Fills heights (N, size, size), zero before."""
    shares, roughness, step = _shares(noise), _ROUGHNESS, heights.shape[-1]
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = _around(rows + rows.roll(-1, 2), shares, roughness)
        centres = heights[:, half::step, half::step]
        beside = (centres + centres.roll(1, 1)) + (corners + corners.roll(-1, 2))
        heights[:, ::step, half::step] = _around(beside, shares, roughness)
        above = (centres + centres.roll(1, 2)) + (corners + corners.roll(-1, 1))
        heights[:, half::step, ::step] = _around(above, shares, roughness)
        step, roughness = half, roughness / decay


def _shares(noise: Tensor) -> Iterator[Tensor]:
    """The next part of `noise`, as large as the (N, k, k) field of step 1, 1, 1, 2, 2, 2, 4, … asks."""
    start, side = 0, 1
    while True:
        for _ in range(3):
            yield noise[:, start : start + side * side].reshape(-1, side, side).double()
            start += side * side
        side *= 2


def _around(total: Tensor, shares: Iterator[Tensor], roughness: float) -> Tensor:
    """The mean of four neighbours whose sum is `total`, moved by up to the square of the roughness."""
    return total.div_(4.0).add_(next(shares).mul_(2.0 * roughness).sub_(roughness).mul_(roughness))
