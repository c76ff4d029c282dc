"""Bilinear resampling of images under a map of the plane, differentiable in the images and in the maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustvit.primitives.geometry.borders import Border, bordered

_AT_ONCE = 3 * 224 * 224  # values: intermediates then stay in a core's cache, at half the time
_HORIZON = 1e-9  # of the depth at the centre: what lies behind the viewer is read very far away


def resampled(images: Tensor, maps: Tensor, border: Border) -> Tensor:
    """Images (N, C, H, W) under one map each: every pixel of the result is read bilinearly at the place that the map gives.

    maps: (N, 3, 3) floats, of homogeneous coordinates (x, y, 1) of a pixel's centre in the result to those in the image; in pixels to the
    right of and below the centre of the image, so that both corners of a row of W pixels are at ∓(W − 1)/2. Coordinates and sums are
    float64; the result has the type of the images. The identity gives the images to the bit, as do turns by 90° of a square image
    and shifts by whole pixels the pixels that they move. Gradients exist with respect to both; where a place is a pixel's centre, that of
    the map is the one to the right or below.
    """
    rows = max(1, _AT_ONCE // max(1, images[:1].numel()))
    parts = zip(torch.split(images, rows), torch.split(maps.double(), rows), strict=True)
    return torch.cat([_resampled(*part, border) for part in parts])


def _resampled(images: Tensor, maps: Tensor, border: Border) -> Tensor:
    height, width = images.shape[2:]
    across, down = _places(maps, height, width)
    flat = images.double().flatten(2)
    total: Tensor | None = None
    for row in _neighbours(down, height, border):
        for column in _neighbours(across, width, border):
            place = (row.pixel * width + column.pixel).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
            part = flat.gather(2, place) * (row.weight * column.weight).flatten(1)[:, None]
            total = part if total is None else total + part
    assert total is not None  # there are four
    return total.view_as(images).to(images.dtype)


class _Neighbour(NamedTuple):
    """One of the two pixels of an axis around each place, and its weight, both (N, H, W)."""

    pixel: Tensor
    weight: Tensor


def _places(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The column and row, (N, H, W) float64, in pixels from the upper left one, at which each pixel of the result is read."""
    y = (torch.arange(height, dtype=torch.float64, device=maps.device) - (height - 1) / 2)[:, None]
    x = torch.arange(width, dtype=torch.float64, device=maps.device) - (width - 1) / 2
    across, down, depth = (
        maps[:, row, 0, None, None] * x + maps[:, row, 1, None, None] * y + maps[:, row, 2, None, None] for row in range(3)
    )
    if bool((depth.detach() != 1.0).any()):
        depth = depth.clamp_min(_HORIZON)
        across, down = across / depth, down / depth
    return across + (width - 1) / 2, down + (height - 1) / 2


def _neighbours(at: Tensor, side: int, border: Border) -> tuple[_Neighbour, _Neighbour]:
    low = at.detach().floor()
    far = at - low
    first = low.long()
    found = []
    for place, weight in ((first, 1.0 - far), (first + 1, far)):
        pixel, inside = bordered(place, side, border)
        found.append(_Neighbour(pixel, weight if inside is None else weight * inside))
    return found[0], found[1]
