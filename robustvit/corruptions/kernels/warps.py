"""Affine and perspective warps, equal to Pillow's and OpenCV's to the level: black beyond the edges, or mirrored there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions.kernels.coordinates import pixel_positions
from robustvit.corruptions.kernels.eight_bit import in_chunks, levels, truncated
from robustvit.corruptions.kernels.filters import reflect_index

Affine = tuple[float, float, float, float, float, float]

_STEPS = 32  # per pixel, in OpenCV's fixed-point coordinates
_FINE = 1024  # per pixel, in those that it adds up for affine warps


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


def affine_mirrored(images: Tensor, matrices: Tensor) -> Tensor:
    """Affine warps (N, C, H, W) float32, one per image, with mirrored borders: OpenCV's bilinear `warpAffine` before version 5.

    matrices: (N, 6) float64 (a, b, c, d, e, f): the pixel (x, y) samples (ax + by + c, dx + ey + f), in steps of 1/32 pixel. Borders are
    mirrored without repeating the edge pixel. Four products are summed in reading order, in float32.
    """
    height, width = images.shape[-2:]
    x, y = (_fixed_point(images, matrices[:, start : start + 3]) for start in (0, 3))
    flat = images.flatten(2)
    out = torch.zeros_like(flat)
    for down in (0, 1):
        rows, along = reflect_index(y // _STEPS + down, height, twice=False) * width, _share(y, down)
        for right in (0, 1):
            places, weights = rows + reflect_index(x // _STEPS + right, width, twice=False), along * _share(x, right)
            out.add_(flat.gather(2, places.flatten(1)[:, None].expand_as(flat)).mul_(weights.flatten(1)[:, None]))
    return out.view_as(images)


def inverse_affine(matrices: Tensor) -> Tensor:
    """The inverses of affine maps (N, 6) float64, step by step as OpenCV computes them; a map onto a line has zeros for its linear part."""
    a, b, c, d, e, f = matrices.unbind(1)
    area = a * e - b * d
    scale = torch.where(area != 0, 1.0 / area, 0.0)
    a, b, d, e = e * scale, -scale * b, -scale * d, a * scale
    return torch.stack((a, b, -a * c - b * f, d, e, -d * c - e * f), dim=1)


def _fixed_point(images: Tensor, line: Tensor) -> Tensor:
    """(N, H, W) int64: columns · a + rows · b + c of `line` (N, 3), in steps of 1/32."""
    rows, columns = pixel_positions(images)
    across, along, start = line[:, :, None, None].unbind(1)
    total = ((rows * along + start) * _FINE).round().long() + (columns * across * _FINE).round().long()
    return (total + _FINE // _STEPS // 2) // (_FINE // _STEPS)


def _share(steps: Tensor, far: int) -> Tensor:
    """The weight of the nearer pixel or of the farther one, along one axis, float32."""
    part = steps % _STEPS
    return (part if far else _STEPS - part).float().div_(_STEPS)


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
