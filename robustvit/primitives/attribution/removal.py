"""Logits of images of which some patches are removed: painted over, or left out of the model's tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.attribution.methods import tiled_logits
from robustvit.primitives.attribution.recorded import to_pixels
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import kept_tokens
from robustvit.primitives.inference.token_grid import TokenGrid

Removal = Literal["black", "mean", "blur", "noise", "drop"]

_BLUR = 1 / 16  # of the short side: the standard deviation
_CUT = 4  # standard deviations, after which the kernel ends


def removing(model: Classifier, images: Tensor, grid: TokenGrid, remove: Removal, draws: Draws) -> Callable[[Tensor], Tensor]:
    """From patches (N, P) bool, counted by row, the same number for each image, to the logits (N, K) of images (N, 3, H, W) without them.

    remove: what they become: `black`; `mean`, the model's mean colour, which is 0 after normalisation; `blur`, the image blurred by a
    Gaussian of a sixteenth of the short side; `noise`, uniform, from the draws of each image; `drop` leaves their tokens out. Raises
    HostRefused for `drop` on a model whose tokens cannot be left out.
    """
    if remove == "drop":
        logits = kept_tokens(model, images)
        return lambda removed: logits(_places(~removed))
    fill = _fill(model, images, remove, draws)

    def painted(removed: Tensor) -> Tensor:
        covered = to_pixels(removed.reshape(-1, grid.rows, grid.columns), model.size)
        return tiled_logits(model, torch.where(covered[:, None], fill, images))

    return painted


def _places(kept: Tensor) -> Tensor:
    """(N, n) the places of equally many that are true in each row of (N, P)."""
    return kept.nonzero()[:, 1].reshape(len(kept), -1)


def _fill(model: Classifier, images: Tensor, remove: Removal, draws: Draws) -> Tensor:
    """(N, 3, H, W): what removed patches become."""
    if remove == "black":
        return torch.zeros_like(images)
    if remove == "mean":
        return model.mean.to(images).expand_as(images)  # type: ignore[operator]
    if remove == "noise":
        return draws.at("removal").uniform(*images.shape[1:]).to(images)
    return blurred_images(images, min(images.shape[2:]) * _BLUR)


def blurred_images(images: Tensor, sigma: float) -> Tensor:
    """Images (N, C, H, W) after a Gaussian of standard deviation `sigma` in pixels, mirrored at the borders, in [0, 1]."""
    for axis in (2, 3):
        radius = min(math.ceil(_CUT * sigma), images.shape[axis] - 1)
        place = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (place / sigma) ** 2)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        kernel = (weights / weights.sum()).to(images).reshape(shape).expand(images.shape[1], -1, -1, -1)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        images = functional.conv2d(functional.pad(images, padding, mode="reflect"), kernel, groups=images.shape[1])
    return images.clamp(0.0, 1.0)
