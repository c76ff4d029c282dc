"""Positions on the picture's plane, in pixels from its top left corner."""

from __future__ import annotations

import torch
from torch import Tensor


def positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W), float64, of images (…, H, W)."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, dtype=torch.float64, device=images.device) for side in (height, width))
    return rows[:, None], columns[None, :]


def longer(images: Tensor) -> int:
    """The longer side of images (…, H, W)."""
    return max(images.shape[-2:])


def per_image(values: Tensor) -> tuple[Tensor, ...]:
    """The columns of (N, K) as K tensors (N, 1, 1), float64, that meet rows and columns."""
    return values.double()[:, :, None, None].unbind(1)
