"""Reading images between their pixels, linearly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.corruptions.filters import reflected


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of (N, C, H, W) float64, enlarged by `factor` ≥ 1; at least (H, W) large, its corners on the corners of the middle.

    As scipy.ndimage.zoom has it, a last row or column that rounding puts past the corner is zero.
    """
    return _zoomed_along(_zoomed_along(images, -2, factor), -1, factor)


def sampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, C, H, W) float64 read at positions (N, H, W) float64, in pixels; beyond the edges the picture is mirrored."""
    height, width = images.shape[-2:]
    top, down = _cell(rows, height)
    left, right = _cell(columns, width)
    flat = images.flatten(2)
    out = torch.zeros_like(flat)
    for y, wy in (top, down):
        for x, wx in (left, right):
            place = (y * width + x).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
            out.add_(flat.gather(2, place).mul_(wy.flatten(1)[:, None]).mul_(wx.flatten(1)[:, None]))
    return out.view_as(images)


def _zoomed_along(images: Tensor, dim: int, factor: float) -> Tensor:
    size = images.shape[dim]
    kept = math.ceil(size / factor)
    count = round(kept * factor)
    ratio = (kept - 1) / (count - 1) if count > 1 else 1.0
    at = torch.arange(count, dtype=torch.float64, device=images.device) * ratio
    low = at.floor().clamp_(max=kept - 1)
    far = torch.where(at > kept - 1, 0.0, at - low)
    near = torch.where(at > kept - 1, 0.0, 1.0 - far)
    first = low.long() + (size - kept) // 2
    second = (low.long() + 1).clamp_(max=kept - 1) + (size - kept) // 2
    shape = (-1, 1) if dim == -2 else (-1,)
    return images.index_select(dim, first).mul_(near.view(shape)).add_(images.index_select(dim, second).mul_(far.view(shape)))


def _cell(at: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two pixels around each position, folded into the picture, with their weights."""
    low = at.floor()
    far = at - low
    index = low.long()
    return (reflected(index, size, twice=True), 1.0 - far), (reflected(index + 1, size, twice=True), far)
