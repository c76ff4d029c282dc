"""Border rules: what is beyond the edges of an image."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Border = Literal["zeros", "edge", "reflect", "circular"]
"""Beyond the edges: black; the nearest pixel; the mirror image, whose axis is the edge pixel; or the image again, as on a torus."""


class Bordered(NamedTuple):
    """Which pixel of an axis is read at each place, shaped like the places, and whether one is; elsewhere the value is 0."""

    pixel: Tensor
    inside: Tensor | None


def bordered(places: Tensor, side: int, border: Border) -> Bordered:
    """The pixels of an axis of `side` pixels that are read at whole places, int64, which may lie beyond its ends. inside: None of all."""
    if border == "zeros":
        return Bordered(places.clamp(0, side - 1), (places >= 0) & (places < side))
    if border == "edge":
        return Bordered(places.clamp(0, side - 1), None)
    if border == "circular":
        return Bordered(places.remainder(side), None)
    period = max(1, 2 * (side - 1))
    folded = places.remainder(period)
    return Bordered(torch.where(folded < side, folded, period - folded), None)
