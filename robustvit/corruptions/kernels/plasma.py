"""Plasma fractals by the diamond-square algorithm (Fournier, Fussell & Carpenter 1982), which ImageNet-C uses for fog."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_ROUGHNESS = 100.0  # of the first step; it cancels, up to rounding, when the map is scaled to [0, 1]


def plasma_fractal(noise: Tensor, size: int, decay: float) -> Tensor:
    """Plasma fractals: height maps (N, size, size) float64 that span [0, 1] and are periodic.

    noise: (N, size² − 1) uniform in [0, 1), used in order: for each step, the squares' centres, then the two sets of diamonds' centres.
    size: a power of two. decay: divides the roughness at each step; displacements scale with its square, as in the released generator.
    """
    heights = torch.zeros(len(noise), size, size, dtype=torch.float64, device=noise.device)
    if compiled.serve(noise):
        compiled.loops(_LOOPS).plasma_fractal(compiled.array(noise, len(noise), -1), decay, _ROUGHNESS, heights.numpy())
    else:
        _diamond_square(heights, noise, decay)
    heights -= heights.amin(dim=(1, 2), keepdim=True)
    return heights.div_(heights.amax(dim=(1, 2), keepdim=True))


def _diamond_square(heights: Tensor, noise: Tensor, decay: float) -> None:
    """Fills heights (N, size, size), which are zero on entry."""
    shares, roughness, step = _noise_fields(noise), _ROUGHNESS, heights.shape[-1]
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = _displaced_mean(rows + rows.roll(-1, 2), shares, roughness)
        centres = heights[:, half::step, half::step]
        beside = (centres + centres.roll(1, 1)) + (corners + corners.roll(-1, 2))
        heights[:, ::step, half::step] = _displaced_mean(beside, shares, roughness)
        above = (centres + centres.roll(1, 2)) + (corners + corners.roll(-1, 1))
        heights[:, half::step, ::step] = _displaced_mean(above, shares, roughness)
        step, roughness = half, roughness / decay


def _noise_fields(noise: Tensor) -> Iterator[Tensor]:
    """Successive parts of `noise` as fields (N, k, k), k = 1, 1, 1, 2, 2, 2, 4, …"""
    start, side = 0, 1
    while True:
        for _ in range(3):
            yield noise[:, start : start + side * side].reshape(-1, side, side).double()
            start += side * side
        side *= 2


def _displaced_mean(total: Tensor, shares: Iterator[Tensor], roughness: float) -> Tensor:
    """The mean of four neighbours, whose sum is `total`, plus noise of up to the roughness squared in magnitude."""
    return total.div_(4.0).add_(next(shares).mul_(2.0 * roughness).sub_(roughness).mul_(roughness))
