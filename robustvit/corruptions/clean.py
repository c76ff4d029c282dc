"""The clean images, as a corruption."""

from __future__ import annotations

from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption


@corruption(family="clean", any_channels=True)
def clean(images: Tensor, draws: Draws) -> Tensor:
    """Returns the images unchanged: the baseline of every corruption."""
    return images
