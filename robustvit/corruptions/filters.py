"""Filters that weigh shifted copies, added in one fixed order: a row's bits depend on nothing but that row.

Every tap is a product and then a sum, never fused: flat regions sit exactly on a level, where truncation would show the difference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Border = Literal["nearest", "reflect"]


def gaussian(
    images: Tensor, sigmas: tuple[float, float], truncate: float, border: Border, *, rounded: torch.dtype = torch.float64
) -> Tensor:
    """Gaussian blur of (N, C, H, W) float64 down the rows, then along them.

    sigmas: for rows and columns, in pixels. truncate: radius in sigmas, rounded. border: `nearest` repeats the edge pixel, `reflect`
    mirrors the picture with the edge pixel twice (`d c b a | a b c d | d c b a`). rounded: what either pass is rounded to.
    """
    for dim, sigma in ((-2, sigmas[0]), (-1, sigmas[1])):
        images = _correlate(images, _bell(sigma, truncate), dim, border).to(rounded).double()
    return images


def motion(images: Tensor, angles: Sequence[float], radius: int, sigma: float) -> Tensor:
    """Streaks of (N, C, H, W) float64 along one angle per image, in degrees: 2 · radius + 1 taps, half a Gaussian from the first on.

    Edge pixels are repeated. Taps from where the streak leaves the picture are dropped, and the picture is darker for them.
    """
    return torch.stack([_streak(image, angle, radius, sigma) for image, angle in zip(images, angles, strict=True)])


def reflected(index: Tensor, size: int, *, twice: bool) -> Tensor:
    """Integer positions of any sign folded into 0 … size − 1 by mirrors at the edges; `twice` counts the edge pixel twice."""
    if twice:
        folded = index.remainder(2 * size)
        return torch.minimum(folded, 2 * size - 1 - folded)
    folded = index.remainder(max(1, 2 * size - 2))
    return torch.minimum(folded, 2 * size - 2 - folded)


@functools.lru_cache(maxsize=64)
def _bell(sigma: float, truncate: float) -> tuple[float, ...]:
    """The weights from the centre outwards."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return tuple((weights / weights.sum())[radius:].tolist())


def _correlate(images: Tensor, weights: tuple[float, ...], dim: int, border: Border) -> Tensor:
    radius, size = len(weights) - 1, images.shape[dim]
    index = torch.arange(-radius, size + radius, device=images.device)
    index = index.clamp(0, size - 1) if border == "nearest" else reflected(index, size, twice=True)
    padded = images.index_select(dim, index)
    out = images * weights[0]
    for tap in range(radius, 0, -1):
        pair = padded.narrow(dim, radius - tap, size) + padded.narrow(dim, radius + tap, size)
        out.add_(pair.mul_(weights[tap]))
    return out


def _streak(image: Tensor, angle: float, radius: int, sigma: float) -> Tensor:
    height, width = image.shape[-2:]
    taps = _taps(angle, radius, sigma, height, width)
    tops, lefts = [top for top, _, _ in taps], [left for _, left, _ in taps]
    edges = (-min(lefts), max(lefts), -min(tops), max(tops))
    padded = functional.pad(image[None], edges, mode="replicate")[0]
    out, scaled = torch.zeros_like(image), torch.empty_like(image)
    for top, left, weight in taps:
        window = padded.narrow(1, top + edges[2], height).narrow(2, left + edges[0], width)
        out.add_(torch.mul(window, weight, out=scaled))
    return out


def _taps(angle: float, radius: int, sigma: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """(rows down, columns right, weight) of the pixels that a streak gathers, nearest first."""
    count = 2 * radius + 1
    bell = np.exp(-(np.arange(count) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    bell = bell / np.sum(bell)
    rise, run = count * np.sin(np.deg2rad(angle)), count * np.cos(np.deg2rad(angle))
    length = math.hypot(rise, run)
    taps = []
    for i in range(count):
        top, left = math.ceil(i * rise / length - 0.5), math.ceil(i * run / length - 0.5)
        if abs(top) >= height or abs(left) >= width:
            break
        taps.append((top, left, float(bell[i])))
    return taps
