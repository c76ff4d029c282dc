"""Shifts, crops and flips, which copy pixels and compute none."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from robustvit.corruptions.geometry.geometry_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.whole_shifts import random_shifts, refuse_far, shifted
from robustvit.primitives.limits import Whole
from robustvit.spec.registry import corruption

Probability = Annotated[float, Ge(0), Le(1)]


@corruption(
    severity="pixels", family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES
)
def shift(
    images: Tensor, draws: Draws, *, pixels: Whole | None = None, share: Annotated[float, Ge(0), Lt(1)] | None = None,
    border: Border = "circular",
) -> Tensor:  # fmt: skip
    """Shifts the image by so many whole pixels, in a direction drawn for each image. 0 is the identity.

    pixels: the larger of the parts of the shift down and to the right; all such shifts are equally likely. share: in place of it, as a
    share of the shorter side, rounded down. border: what enters: `circular`, what left on the other side; `zeros`, black; `edge`, the
    nearest pixel; `reflect`, the mirror image.
    """
    if (pixels is None) == (share is None):
        raise BadParameter("corruption 'shift': give pixels or share, one of the two.")
    height, width = images.shape[2:]
    far = int(pixels if pixels is not None else (share or 0.0) * min(height, width) + 1e-9)
    refuse_far(far, (height, width), "corruption 'shift'")
    return shifted(images, ring_shifts(draws.at("shift"), far), border)


@corruption(
    severity="padding", family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION,
    rules=RULES + "The paper's padding is 10 at 224 px.",
)  # fmt: skip
def crop(images: Tensor, draws: Draws, *, padding: Whole = 10, border: Border = "zeros") -> Tensor:
    """Pads the image on every side and crops a window of its size from it, at a place drawn for each image. 0 is the identity.

    padding: pixels, hence the largest shift in either direction. border: what the image is padded with, as in `shift`.
    """
    refuse_far(padding, images.shape[2:], "corruption 'crop'", "a padding")
    return shifted(images, random_shifts(draws.at("crop"), 1, (-padding, padding), (-padding, padding))[:, 0], border)


@corruption(
    family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION,
    rules="The paper flips half of the images, drawn at random; here all are flipped, and `probability` chooses otherwise.",
)  # fmt: skip
def flip(
    images: Tensor, draws: Draws, *, direction: Literal["horizontal", "vertical"] = "horizontal", probability: Probability = 1.0
) -> Tensor:
    """Mirrors the image: `horizontal` exchanges left and right, `vertical` above and below.

    probability: of each image being mirrored.
    """
    chosen = draws.at("whether").uniform() < probability
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3 if direction == "horizontal" else 2), images)


def ring_shifts(draws: Draws, far: int) -> Tensor:
    """(N, 2) int64: for each sample one of the 8 · far shifts whose larger part is `far`, all equally likely."""
    if far == 0:
        return torch.zeros(len(draws), 2, dtype=torch.int64, device=draws.device)
    at = draws.integers(1, low=0, high=8 * far)[:, 0]
    side, along = at // (2 * far), at % (2 * far) - far
    full = torch.full_like(along, far)
    down = torch.where(side == 0, -full, torch.where(side == 1, along, torch.where(side == 2, full, -along)))
    right = torch.where(side == 0, along, torch.where(side == 1, full, torch.where(side == 2, -along, -full)))
    return torch.stack((down, right), dim=1)
