"""Random erasing as a corruption: a rectangle of the image is replaced by one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from robustvit.corruptions.geometry.geometry_source import LICENCE, URL
from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import window_pixels
from robustvit.spec.registry import corruption

Share = Annotated[float, Ge(0), Le(1)]


@corruption(
    severity="area", family="geometry", any_channels=True,
    source="Zhong et al. 2020, Random Erasing Data Augmentation (AAAI), as Ding et al. 2023 evaluate",
    url=URL, licence=LICENCE,
    citation="""@inproceedings{zhong2020random,
  title={Random Erasing Data Augmentation},
  author={Zhong, Zhun and Zheng, Liang and Kang, Guoliang and Li, Shaozi and Yang, Yi},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2020}
}""",
    rules="Differs from the augmentation, which draws the area between 0.02 and 0.33 and erases half of the images, after "
    "normalisation: the area is given, all images are erased unless `probability` says otherwise, and 0 is black.",
)  # fmt: skip
def erasing(
    images: Tensor, draws: Draws, *, area: Share = 0.175, aspect: Annotated[float, Gt(0), Le(1)] = 0.3,
    fill: Share = 0.0, probability: Share = 1.0,
) -> Tensor:  # fmt: skip
    """Erases a rectangle, of a shape and at a place drawn for each image. Area 0 is the identity.

    area: of the rectangle as a share of the image; its sides are rounded to whole pixels and end at those of the image, where the other
    side makes up for it. aspect: height over width is drawn from this to its inverse, uniformly in its logarithm. fill: value in [0, 1] of
    all channels. probability: of each image being erased. Other pixels keep their bits.
    """
    height, width = images.shape[2:]
    shape, top, left = (draws.at(what).uniform(1)[:, 0].double().contiguous() for what in ("aspect", "top", "left"))
    drawn = zip(shape.tolist(), top.tolist(), left.tolist(), strict=True)
    hidden = [_covered(_sides(area, one, aspect, height, width), place, (height, width)) for one, *place in drawn]
    chosen = draws.at("whether").uniform() < probability
    covered = torch.stack(hidden) if hidden else torch.zeros(0, height, width, dtype=torch.bool)
    return torch.where((covered & chosen.cpu()[:, None, None]).to(images.device)[:, None], fill, images)


def _sides(area: float, uniform: float, aspect: float, height: int, width: int) -> tuple[int, int]:
    """The height and width of a rectangle whose aspect is so far, from 0 to 1, between its ends."""
    pixels, ratio = area * height * width, math.exp((1 - 2 * uniform) * math.log(aspect))
    tall = min(max(math.sqrt(pixels * ratio), pixels / width), float(height))
    return round(tall), round(pixels / tall) if tall else 0


def _covered(sides: tuple[int, int], place: Sequence[float], whole: tuple[int, int]) -> Tensor:
    """(H, W) bool: the pixels of a rectangle. place: of its upper left pixel, from 0 to 1 between the ends of what is possible."""
    down, across = (
        window_pixels(torch.tensor(int(at * (length - side + 1))), side, length)
        for at, side, length in zip(place, sides, whole, strict=True)
    )
    return down[:, None] & across
