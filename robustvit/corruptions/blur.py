"""Blur: defocus, frosted glass, motion, zoom and Gaussian."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import filters
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, in_planes, levels, truncated
from robustvit.corruptions.kernels.sampling import add_zoomed
from robustvit.primitives import compiled
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_DISKS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, softening
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, reach, passes
_STREAKS = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))  # radius, sigma
_ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end, step
_SIGMAS = (1.0, 2.0, 3.0, 4.0, 6.0)
_TILE = 256  # largest side of a Fourier transform, where small primes allow it


@corruption(version=2, severity="severity", family="blur", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def defocus_blur(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Defocus blur: every point becomes a disk of radius 3 … 10 pixels with a soft rim."""
    return _defocus_blur(images, severity)


@corruption(severity="severity", family="blur", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def glass_blur(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Frosted glass blur: Gaussian blur, then every pixel is replaced by a neighbour, then Gaussian blur again.

    The released generator is meant to swap neighbours, but copies one over the other; so does this.
    """
    _, reach, passes = _GLASS[severity - 1]
    rows, columns = (max(0, side - 2 * reach) for side in images.shape[-2:])
    offsets = draws.at("offsets").integers(passes, rows, columns, 2, low=-reach, high=reach)
    return in_chunks(lambda part, given: _glass_blur(part, given, severity), images, offsets)


@corruption(severity="severity", family="blur", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def motion_blur(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Motion blur of a camera that moves during the exposure, in a direction within 45° of the horizontal."""
    angles = draws.at("angle").uniform(low=-45.0, high=45.0)
    return in_chunks(lambda part, given: _motion_blur(part, given, severity), images, angles)


@corruption(severity="severity", family="blur", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def zoom_blur(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Zoom blur of a camera that zooms in during the exposure: the mean of the image and of enlargements of its centre."""
    return in_chunks(lambda part: _zoom_blur(part, severity), images)


@corruption(severity="severity", family="blur", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def gaussian_blur(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Gaussian blur of sigma 1 … 6 pixels. One of the four extra corruptions."""
    return _gaussian_blur(images, severity)


def _defocus_blur(images: Tensor, severity: Severity) -> Tensor:
    """Tile by tile, by Fourier transforms in float64 that stay in a CPU's cache."""
    reach = 2 * (len(_disk(severity)) // 2)
    (rows, high), (columns, wide) = (_tiles(side, reach) for side in images.shape[-2:])
    sides = tuple(next_fast_len(size + reach, real=True) for size in (high, wide))
    spectrum = _spectrum(severity, *sides, images.device)
    padded = torch.zeros(sides, dtype=torch.float64, device=images.device)
    product, across = torch.empty_like(spectrum), torch.empty_like(spectrum)
    blurred = padded.new_empty(high, sides[1])
    out = torch.empty(images.shape, dtype=images.dtype, device=images.device)
    for target, plane in zip(out.flatten(0, 1), images.flatten(0, 1), strict=True):  # its bits depend on that plane alone
        mirrored = _mirrored(plane if plane.dtype == torch.uint8 else levels(plane), reach // 2)
        for top, left in itertools.product(rows, columns):
            padded[: high + reach, : wide + reach] = mirrored[top : top + high + reach, left : left + wide + reach]
            torch.fft.ifft(torch.fft.rfft2(padded, out=product).mul_(spectrum), dim=0, out=across)
            torch.fft.irfft(across[reach : reach + high], n=sides[1], out=blurred)  # of the rows that are kept
            target[top : top + high, left : left + wide] = truncated(blurred[:, reach : reach + wide], images.dtype)
    return out


def _tiles(side: int, reach: int) -> tuple[list[int], int]:
    """The first row (or column) of each tile of an image, and the rows of a tile. The last tile may overlap that before it."""
    count = -(-side // (_TILE - reach))
    size = -(-side // count)
    return [min(at * size, side - size) for at in range(count)], size


def _mirrored(plane: Tensor, radius: int) -> Tensor:
    """The plane with so many mirrored rows and columns around it; the edge is not repeated."""
    for dim, size in enumerate(plane.shape):
        before, after = _mirror_places(size, radius, plane.device)
        plane = torch.cat((plane.index_select(dim, before), plane, plane.index_select(dim, after)), dim)
    return plane


@functools.lru_cache(maxsize=32)
def _mirror_places(size: int, radius: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The rows (or columns) that are mirrored before the first and after the last."""
    starts = torch.tensor([[-radius], [size]], device=device)
    before, after = filters.reflect_index(starts + torch.arange(radius, device=device), size, twice=False)
    return before, after


@functools.lru_cache(maxsize=32)
def _spectrum(severity: Severity, height: int, width: int, device: torch.device) -> Tensor:
    spectrum: Tensor = torch.fft.rfft2(torch.from_numpy(_disk(severity)).double(), s=(height, width))
    return spectrum.to(device)


@functools.lru_cache(maxsize=8)
def _disk(severity: Severity) -> NDArray[np.float32]:
    """The float32 kernel, of odd side, computed as in the released generator (OpenCV 4): its weights sum to one only approximately.

    Truncation turns a sum of 1 − 3e-8 into flat regions one level darker, so the order of the float32 steps matters: the disk, then a small
    Gaussian along and across with mirrored borders (which cut and fold the rim of the two largest disks, 1.3 % and 1.1 % too bright).
    """
    radius, softening = _DISKS[severity - 1]
    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    at = np.arange(-reach, reach + 1)
    disk = (at[None] ** 2 + at[:, None] ** 2 <= radius**2).astype(np.float32)
    bell = np.exp(-(np.arange(-(side // 2), side // 2 + 1) ** 2) / (2 * softening**2))
    weights = (bell / bell.sum()).astype(np.float32)
    across = _filter_rows(disk / disk.sum(), weights, outwards=side > 3)  # OpenCV has a loop of its own for rows and three weights
    return np.ascontiguousarray(_filter_rows(across.T, weights, outwards=True).T)


def _filter_rows(disk: NDArray[np.float32], weights: NDArray[np.float32], *, outwards: bool) -> NDArray[np.float32]:
    """Filters each row with symmetric weights, from the middle outwards or inwards; a product and its sum are rounded to float32 once."""
    reach, side = len(weights) // 2, disk.shape[1]
    padded = np.pad(disk, ((0, 0), (reach, reach)), mode="reflect")
    total = np.zeros_like(disk)
    for tap in range(reach + 1) if outwards else range(reach, -1, -1):
        pair = padded[:, reach - tap :][:, :side] + padded[:, reach + tap :][:, :side] if tap else disk
        total = (pair.astype(np.float64) * weights[reach + tap] + total).astype(np.float32)
    return total


def _glass_blur(images: Tensor, offsets: Tensor, severity: Severity) -> Tensor:
    """offsets: (N, passes, H − 2·reach, W − 2·reach, 2) int64, right and down, for the pixels in reverse order, from the last one."""
    sigma, _, _ = _GLASS[severity - 1]
    first = filters.gaussian_blur(fractions(images), (sigma, sigma), 4.0, "nearest").mul_(255.0).clamp_(0.0, 255.0).floor_()
    sources = _glass_sources(offsets, images.shape[-2], images.shape[-1])
    moved = first.flatten(2).gather(2, sources[:, None].expand(-1, images.shape[1], -1)).view_as(first)
    return truncated(filters.gaussian_blur(moved.div_(255.0), (sigma, sigma), 4.0, "nearest").mul_(255.0), images.dtype)


def _glass_sources(offsets: Tensor, height: int, width: int) -> Tensor:
    """(N, H·W) int64: index of the pixel whose value each pixel holds after all passes of copying."""
    if compiled.serve(offsets):
        out = torch.empty(len(offsets), height * width, dtype=torch.int64)
        return compiled.filled(out, compiled.loops(_LOOPS).glass_sources, offsets.numpy(), height, width, shape=out.shape)
    here = torch.arange(height * width, device=offsets.device)
    margin = (height - offsets.shape[2]) // 2 + 1
    inside = here.view(height, width)[margin : margin + offsets.shape[2], margin : margin + offsets.shape[3]]
    sources = here.expand(len(offsets), -1)
    for turn in offsets.unbind(1):
        right, down = turn.flip(1, 2).unbind(-1)
        taken = here.repeat(len(offsets), 1)
        taken[:, inside.flatten()] = (inside + down * width + right).flatten(1)
        sources = sources.gather(1, _one_pass(taken, inside))
    return sources


def _one_pass(taken: Tensor, inside: Tensor) -> Tensor:
    """The source of each pixel's value when pixels are overwritten one by one, from the last to the first.

    taken: (N, P) index of the pixel that each one copies. A copied pixel may itself have been overwritten before: the ends of these chains,
    which lead to ever later pixels, are found by pointer doubling.
    """
    here = torch.arange(taken.shape[1], device=taken.device)
    overwritten = torch.zeros_like(here, dtype=torch.bool)
    overwritten[inside.flatten()] = True
    end = torch.where((taken > here) & overwritten[taken], taken, here)
    while True:
        further = end.gather(1, end)
        if torch.equal(further, end):
            return taken.gather(1, end)
        end = further


def _motion_blur(images: Tensor, angles: Tensor, severity: Severity) -> Tensor:
    """angles: (N,) degrees."""
    radius, sigma = _STREAKS[severity - 1]
    return truncated(filters.motion_blur(levels(images), angles.tolist(), radius, sigma), images.dtype)


def _zoom_blur(images: Tensor, severity: Severity) -> Tensor:
    """Sums are in float32, as in the released generator."""
    end, step = _ZOOMS[severity - 1]
    factors = np.arange(1, end, step).tolist()
    start = fractions(images).float()
    total = start.clone()  # the first factor is 1
    for factor in factors[1:]:
        add_zoomed(total, start, factor)
    return truncated((start + total).div_(len(factors) + 1).mul_(255.0), images.dtype)


def _gaussian_blur(images: Tensor, severity: Severity) -> Tensor:
    sigma = _SIGMAS[severity - 1]

    def blurred(planes: Tensor) -> Tensor:
        return truncated(filters.gaussian_blur(fractions(planes), (sigma, sigma), 4.0, "nearest").mul_(255.0), images.dtype)

    return in_planes(blurred, images)
