"""Gaussian and motion blur as weighted sums of shifted images, in one fixed order: the bits of a sample depend on that sample alone.

Every tap is a product and then a sum, never a fused multiply-add: flat regions lie exactly on a level, where truncation would turn the
smallest difference into a whole level.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.filter_loops"

Border = Literal["nearest", "reflect"]


def gaussian_blur(
    images: Tensor, sigmas: tuple[float, float], truncate: float, border: Border, *, rounded: torch.dtype = torch.float64
) -> Tensor:
    """Gaussian blur of (N, C, H, W) float64 images, along the columns and then along the rows.

    sigmas: for rows and columns, in pixels. truncate: radius in sigmas, rounded. border: `nearest` repeats the edge pixel, `reflect`
    mirrors the image with the edge pixel twice (`d c b a | a b c d | d c b a`). rounded: the dtype that each pass is rounded to.
    """
    for dim, sigma in ((-2, sigmas[0]), (-1, sigmas[1])):
        images = _correlate(images, _gaussian_weights(sigma, truncate), dim, border).to(rounded).double()
    return images


def motion_blur(images: Tensor, angles: Sequence[float], radius: int, sigma: float) -> Tensor:
    """Motion blur of (N, C, H, W) float64 images along one angle per image, in degrees: 2 · radius + 1 taps, weighted by half a Gaussian.

    Edge pixels are repeated. Taps at which the kernel extends beyond the image's size are dropped, which makes the image darker.
    """
    blur = _motion_blur_compiled if compiled.serve(images) else _motion_blur_torch
    weights = _half_gaussian_weights(radius, sigma)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for row, image, taps in zip(out, images, _taps(angles, radius, *images.shape[-2:]), strict=True):
        blur(image, taps, weights, row)
    return out


def reflect_index(index: Tensor, size: int, *, twice: bool) -> Tensor:
    """Reflects integer positions of any sign into 0 … size − 1; `twice` repeats the edge pixel (numpy's `symmetric` padding)."""
    if twice:
        folded = index.remainder(2 * size)
        return torch.minimum(folded, 2 * size - 1 - folded)
    folded = index.remainder(max(1, 2 * size - 2))
    return torch.minimum(folded, 2 * size - 2 - folded)


@functools.lru_cache(maxsize=64)
def _gaussian_weights(sigma: float, truncate: float) -> tuple[float, ...]:
    """The weights of a normalised Gaussian, from the centre outwards."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return tuple((weights / weights.sum())[radius:].tolist())


def _correlate(images: Tensor, weights: tuple[float, ...], dim: int, border: Border) -> Tensor:
    radius, size = len(weights) - 1, images.shape[dim]
    if border == "reflect" and 4 * radius > size:
        return _correlate_by_matrix(images, _mirrored_matrix(weights, size).to(images.device), dim)
    index = torch.arange(-radius, size + radius, device=images.device)
    index = index.clamp(0, size - 1) if border == "nearest" else reflect_index(index, size, twice=True)
    if compiled.serve(images):
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        loops = compiled.loops(_LOOPS)
        correlate = loops.correlate_columns if dim == -2 else loops.correlate_rows
        return compiled.filled(out, correlate, compiled.planes(images), np.array(weights), index.numpy())
    if images.device.type == "cpu" and not images.requires_grad and _scipy_rounds_every_step():
        return torch.from_numpy(_correlate_by_scipy(images.numpy(), weights, dim, border))
    padded = images.index_select(dim, index)
    out = images * weights[0]
    for tap in range(radius, 0, -1):
        pair = padded.narrow(dim, radius - tap, size) + padded.narrow(dim, radius + tap, size)
        out.add_(pair.mul_(weights[tap]))
    return out


def _correlate_by_scipy(images: NDArray[np.float64], weights: tuple[float, ...], dim: int, border: Border) -> NDArray[np.float64]:
    """The same sums, from the outermost taps inwards, a line at a time: a half to a quarter of the time."""
    correlated: NDArray[np.float64] = ndimage.correlate1d(images, (*weights[:0:-1], *weights), axis=dim, mode=border)
    return correlated


@functools.lru_cache(maxsize=1)
def _scipy_rounds_every_step() -> bool:
    """Whether scipy was compiled without fused multiply-adds: whether its sums are ours to the bit. It is not everywhere but on x86-64."""
    values, weights = np.sqrt(np.arange(1.0, 513.0)), (0.4, 0.2, 0.1)
    total = values[2:-2] * weights[0]
    for tap in (2, 1):
        total = total + (values[2 - tap : 510 - tap] + values[2 + tap : 510 + tap]) * weights[tap]
    return np.array_equal(_correlate_by_scipy(values, weights, -1, "nearest")[2:-2], total)


def _correlate_by_matrix(images: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """Correlates with a kernel about as long as the image or longer: far fewer products than tap by tap. Plane by plane, for equal bits."""
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for plane, given in zip(out.flatten(0, 1), images.flatten(0, 1), strict=True):
        plane.copy_(matrix @ given if dim == -2 else given @ matrix.T)
    return out


@functools.lru_cache(maxsize=16)
def _mirrored_matrix(weights: tuple[float, ...], size: int) -> Tensor:
    """(size, size) weight of each pixel in the sum at each, the mirror images folded in."""
    radius = len(weights) - 1
    places = torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)
    taps = torch.tensor((*weights[:0:-1], *weights), dtype=torch.float64)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, reflect_index(places, size, twice=True), taps.expand(size, -1))


class _Taps(NamedTuple):
    """Offsets of a motion kernel's taps, in rows down and columns to the right of a pixel, nearest first."""

    tops: NDArray[np.int64]
    lefts: NDArray[np.int64]


def _taps(angles: Sequence[float], radius: int, height: int, width: int) -> list[_Taps]:
    """The taps of each image's kernel that lie within the image size."""
    count = 2 * radius + 1
    turns = np.deg2rad(np.array(angles, dtype=np.float64))[:, None]
    rise, run = count * np.sin(turns), count * np.cos(turns)
    length = np.hypot(rise, run)
    tops, lefts = (np.ceil(np.arange(count) * part / length - 0.5).astype(np.int64) for part in (rise, run))
    kept = ((np.abs(tops) < height) & (np.abs(lefts) < width)).sum(axis=1)
    return [_Taps(top[:some], left[:some]) for top, left, some in zip(tops, lefts, kept.tolist(), strict=True)]


@functools.lru_cache(maxsize=64)
def _half_gaussian_weights(radius: int, sigma: float) -> NDArray[np.float64]:
    """The weights of a motion kernel's taps: half a Gaussian, normalised."""
    count = 2 * radius + 1
    bell = np.exp(-(np.arange(count) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return np.asarray(bell / np.sum(bell))


def _motion_blur_compiled(image: Tensor, taps: _Taps, weights: NDArray[np.float64], out: Tensor) -> None:
    compiled.loops(_LOOPS).motion_blur(compiled.planes(image), taps.tops, taps.lefts, weights, compiled.planes(out))


def _motion_blur_torch(image: Tensor, taps: _Taps, weights: NDArray[np.float64], out: Tensor) -> None:
    height, width = image.shape[-2:]
    edges = [max(0, -taps.lefts.min()), max(0, taps.lefts.max()), max(0, -taps.tops.min()), max(0, taps.tops.max())]
    padded = functional.pad(image[None], edges, mode="replicate")[0]
    scaled = torch.empty_like(image)
    out.zero_()
    for top, left, weight in zip(taps.tops.tolist(), taps.lefts.tolist(), weights.tolist(), strict=False):
        window = padded.narrow(1, top + edges[2], height).narrow(2, left + edges[0], width)
        out.add_(torch.mul(window, weight, out=scaled))
