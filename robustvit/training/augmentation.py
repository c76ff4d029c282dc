"""The augmentation of every training batch: small random rotations, changes of size, and shifts."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.training.recipe import Recipe


def jitter(batch: Batch, draws: Draws, recipe: Recipe) -> Batch:
    """Rotates, resizes and shifts each image at random, uniformly within the recipe's limits; new pixels repeat the border."""
    if recipe.rotation == recipe.scale == recipe.shift == 0:
        return batch
    turn, size, right, down = draws.uniform(4, low=-1.0, high=1.0).unbind(dim=1)
    angle = turn * math.radians(recipe.rotation)
    along, across = (1 + recipe.scale * size) * angle.cos(), (1 + recipe.scale * size) * angle.sin()
    top = torch.stack((along, -across, 2 * recipe.shift * right), dim=1)  # 2: grid coordinates run from -1 to 1
    bottom = torch.stack((across, along, 2 * recipe.shift * down), dim=1)
    grid = functional.affine_grid(torch.stack((top, bottom), dim=1), list(batch.images.shape), align_corners=False)
    moved = functional.grid_sample(batch.images, grid, padding_mode="border", align_corners=False)
    return batch.with_images(moved.clamp_(0.0, 1.0))  # the four weights of a pixel may sum to a rounding above one
