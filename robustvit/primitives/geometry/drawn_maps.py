"""Affine maps of the plane drawn for each image, and the same maps on coarser grids."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.maps import affine_maps


def drawn_affine(draws: Draws, size: tuple[int, int], degrees: float, shift: float, scale: tuple[float, float]) -> Tensor:
    """(N, 3, 3) float64, as `affine_maps` makes them: rotations, shifts and sizes drawn uniformly for each sample.

    size: (height, width) in pixels. degrees: rotations are from −degrees to degrees. shift: the same as a share of the side. scale: the
    smallest and the largest factor.
    """
    turn, right, down = draws.at("affine").uniform(3, low=-1.0, high=1.0).double().unbind(dim=1)
    factor = draws.at("scale").uniform(low=scale[0], high=scale[1])
    return affine_maps(degrees * turn, shift * size[1] * right, shift * size[0] * down, factor)


def on_grid(maps: Tensor, patch: tuple[int, int]) -> Tensor:
    """Maps (N, 3, 3) of an image as those of a grid whose cells are (height, width) pixels, both from their centres."""
    cell = torch.tensor([patch[1], patch[0], 1.0], dtype=maps.dtype, device=maps.device)
    return maps * cell / cell[:, None]
