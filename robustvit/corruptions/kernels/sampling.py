"""Bilinear sampling: zooming into the centre, and reading at arbitrary positions."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions.kernels.filters import reflect_index
from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.filter_loops"


def zoom(images: Tensor, factor: float) -> Tensor:
    """Enlarges the centre of (N, C, H, W) float64 images by `factor` ≥ 1, corners aligned; the result is at least (H, W) large.

    As in scipy.ndimage.zoom, a last row or column that rounding puts beyond the corner is zero.
    """
    height, width = (len(_cells(side, factor).first) for side in images.shape[-2:])
    out = images.new_zeros(*images.shape[:2], height, width)
    add_zoomed(out, images, factor)
    return out


def add_zoomed(total: Tensor, images: Tensor, factor: float) -> None:
    """Adds the upper left part of `zoom(images, factor)` to `total` (N, C, h, w), in place.

    The enlargement is computed in float64 and rounded to the precision of `total` before it is added.
    """
    rows, columns = (_cells(side, factor).of(end) for side, end in zip(images.shape[-2:], total.shape[-2:], strict=True))
    if compiled.serve(total, images):
        compiled.loops(_LOOPS).add_zoomed(compiled.planes(images), *rows, *columns, compiled.planes(total))
        return
    for dim, cells in ((-2, rows), (-1, columns)):
        first, second, near, far = (torch.from_numpy(part).to(images.device) for part in cells)
        shape = (-1, 1) if dim == -2 else (-1,)
        start = images.index_select(dim, first).double().mul_(near.view(shape))
        images = start.add_(images.index_select(dim, second).double().mul_(far.view(shape)))
    total.add_(images.to(total.dtype))


def sample_bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Samples (N, C, H, W) images bilinearly in float64 at positions (N, H, W) float64, in pixels; images are mirrored at their borders."""
    height, width = images.shape[-2:]
    if compiled.serve(images):
        out = torch.empty_like(images, dtype=torch.float64, memory_format=torch.contiguous_format)
        for given in zip(images, rows, columns, out, strict=True):
            compiled.loops(_LOOPS).sample_bilinear(*(compiled.planes(part) for part in given))
        return out
    top, down = _cell(rows, height)
    left, right = _cell(columns, width)
    flat = images.double().flatten(2)
    out = torch.zeros_like(flat)
    for y, wy in (top, down):
        for x, wx in (left, right):
            place = (y * width + x).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
            out.add_(flat.gather(2, place).mul_(wy.flatten(1)[:, None]).mul_(wx.flatten(1)[:, None]))
    return out.view_as(images)


class _Cells(NamedTuple):
    """The two source rows (or columns) that each row (or column) of the result lies between, and their weights."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    near: NDArray[np.float64]
    far: NDArray[np.float64]

    def of(self, count: int) -> _Cells:
        """The entries of the first `count` rows (or columns) of the result."""
        return _Cells(self.first[:count], self.second[:count], self.near[:count], self.far[:count])


@functools.lru_cache(maxsize=256)
def _cells(size: int, factor: float) -> _Cells:
    kept = math.ceil(size / factor)
    count = round(kept * factor)
    ratio = (kept - 1) / (count - 1) if count > 1 else 1.0
    at = np.arange(count) * ratio
    low = np.minimum(np.floor(at), kept - 1)
    far = np.where(at > kept - 1, 0.0, at - low)
    near = np.where(at > kept - 1, 0.0, 1.0 - far)
    index, start = low.astype(np.int64), (size - kept) // 2
    return _Cells(index + start, np.minimum(index + 1, kept - 1) + start, near, far)


def _cell(at: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two pixels around each position, reflected into the image, with their weights."""
    low = at.floor()
    far = at - low
    index = low.long()
    return (reflect_index(index, size, twice=True), 1.0 - far), (reflect_index(index + 1, size, twice=True), far)
