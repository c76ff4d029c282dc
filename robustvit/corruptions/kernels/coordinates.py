"""Pixel coordinates, from the top left corner, in shapes that broadcast."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W), float64, of images (…, H, W)."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, dtype=torch.float64, device=images.device) for side in (height, width))
    return rows[:, None], columns[None, :]


def longer_side(images: Tensor) -> int:
    """The longer side of images (…, H, W)."""
    return max(images.shape[-2:])


def per_image(values: Tensor) -> tuple[Tensor, ...]:
    """The K columns of (N, K) as float64 tensors (N, 1, 1), which broadcast with rows and columns."""
    return values.double()[:, :, None, None].unbind(1)
