"""Clean: nothing is done to the images."""

from __future__ import annotations

from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption


@corruption(family="clean")
def clean(images: Tensor, draws: Draws) -> Tensor:
    """The images as they are: what every corruption is compared with."""
    return images
