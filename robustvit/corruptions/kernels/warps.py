"""Affine and perspective warps, equal to Pillow's and OpenCV's to the level; black beyond the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions.kernels.coordinates import pixel_positions
from robustvit.corruptions.kernels.eight_bit import in_chunks, levels, truncated

Affine = tuple[float, float, float, float, float, float]

_STEPS = 32  # per pixel, in OpenCV's fixed-point coordinates


def affine(images: Tensor, matrix: Affine) -> Tensor:
    """Affine warp: the pixel with centre (x, y) samples (ax + by + c, dx + ey + f); Pillow's bilinear `Image.transform`, which truncates.

    matrix: (a, b, c, d, e, f), in pixels from the top left corner.
    """
    cell = _bilinear_cells(images, matrix)
    return _by_channel(lambda part: truncated(_bilinear(levels(part), cell)), images)


def perspective(images: Tensor, matrix: NDArray[np.float64]) -> Tensor:
    """Perspective warp by a 3×3 forward matrix on (x, y, 1): OpenCV's `warpPerspective` before version 5, in steps of 1/32 pixel."""
    corners = _corners(images, matrix)
    return _by_channel(lambda part: truncated(_weighted_sum(levels(part).floor_(), corners)), images)


def _by_channel(step: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Applies `step` to all channels of all images as (…, 1, H, W): one by one on a CPU, so that intermediates stay small."""
    return in_chunks(step, images.flatten(0, 1)[:, None]).view(images.shape)


class _Cell(NamedTuple):
    """The four pixels around each sampling position, as indices into H·W; its offset from the first; whether it is inside the image."""

    near: tuple[Tensor, Tensor]
    far: tuple[Tensor, Tensor]
    right: Tensor
    down: Tensor
    inside: Tensor


def _bilinear_cells(images: Tensor, matrix: Affine) -> _Cell:
    a, b, c, d, e, f = matrix
    height, width = images.shape[-2:]
    rows, columns = (at + 0.5 for at in pixel_positions(images))
    x, y = _line(columns, a, rows, b) + c, _line(columns, d, rows, e) + f
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    near, far = (((top + step).long().clamp_(0, height - 1) * width) for step in (0, 1))
    first, second = ((left + step).long().clamp_(0, width - 1) for step in (0, 1))
    return _Cell((near + first, near + second), (far + first, far + second), x - left, y - top, inside)


def _line(columns: Tensor, across: float, rows: Tensor, along: float) -> Tensor:
    """columns · across + rows · along, which stays (1, W) or (H, 1) where one of the factors is zero."""
    if along == 0:
        return columns * across
    return rows * along if across == 0 else columns * across + rows * along


def _bilinear(values: Tensor, cell: _Cell) -> Tensor:
    above, below = (_lerp(_gather(values, first), _gather(values, second), cell.right) for first, second in (cell.near, cell.far))
    return _lerp(above, below, cell.down).mul_(cell.inside)


def _gather(values: Tensor, places: Tensor) -> Tensor:
    """The pixels of (N, C, H, W) at places (H, W), indices into H·W shared by all samples and channels."""
    flat = values.flatten(2)
    return flat.gather(2, places.flatten().expand(*flat.shape[:2], -1)).view_as(values)


def _lerp(first: Tensor, second: Tensor, part: Tensor) -> Tensor:
    return (second - first).mul_(part).add_(first)


def _corners(images: Tensor, matrix: NDArray[np.float64]) -> list[tuple[Tensor, Tensor]]:
    """The four pixels around each sampling position, as indices into H·W, and their weights times 1024: 0 outside the image."""
    height, width = images.shape[-2:]
    x, y = _sources(images, matrix)
    corners = []
    for down in (0, 1):
        for right in (0, 1):
            column, row = x // _STEPS + right, y // _STEPS + down
            across, along = (at % _STEPS if far else _STEPS - at % _STEPS for at, far in ((x, right), (y, down)))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            corners.append((place, (across * along * inside).double()))
    return corners


def _sources(images: Tensor, matrix: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """The sampling position of each pixel (H, W), as int64 numbers of steps to the right and down."""
    (a, b, c), (d, e, f), (g, h, i) = np.linalg.inv(matrix).tolist()
    rows, columns = pixel_positions(images)
    scale = _STEPS / (columns * g + (rows * h + i))
    x, y = columns * a + (rows * b + c), columns * d + (rows * e + f)
    return (x * scale).round_().long(), (y * scale).round_().long()


def _weighted_sum(values: Tensor, corners: list[tuple[Tensor, Tensor]]) -> Tensor:
    total = torch.zeros_like(values)
    for place, weight in corners:
        total.add_(_gather(values, place).mul_(weight))
    return total.add_(_STEPS * _STEPS / 2).mul_(1 / (_STEPS * _STEPS))
