"""Random erasing: a rectangle of an image becomes a constant, a random colour or noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{zhong2020random,
  title={Random Erasing Data Augmentation},
  author={Zhong, Zhun and Zheng, Liang and Kang, Guoliang and Li, Shaozi and Yang, Yi},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2020}
}"""
_ATTEMPTS = 10  # rectangles drawn for an image until one fits


class Rectangle(NamedTuple):
    """Rows and columns of an image, the last ones left out."""

    top: int
    bottom: int
    left: int
    right: int


@defense(
    family="augmentation", source="Zhong et al. 2020, as timm has it", url="https://arxiv.org/abs/1708.04896", citation=_CITATION,
    rules="Differs from timm, which erases normalised images: what is filled in is clipped to [0, 1]. A constant is `mean`, timm's 0.",
)  # fmt: skip
def random_erasing(
    *, probability: Annotated[float, Ge(0), Le(1)] = 0.25, mode: Literal["const", "rand", "pixel"] = "pixel",
    min_area: Annotated[float, Gt(0), Lt(1)] = 0.02, max_area: Annotated[float, Gt(0), Le(1)] = 1 / 3,
    min_aspect: Annotated[float, Gt(0), Le(1)] = 0.3, mean: NonNegative = 0.5, std: NonNegative = 0.5,
) -> Defense:  # fmt: skip
    """Random erasing (Zhong et al. 2020): with `probability`, a rectangle of an image is replaced by numbers that tell nothing of it.

    mode: `pixel`, normal noise in every pixel; `rand`, a normal colour for each rectangle; `const`, the mean. mean, std: of the noise in
    pixel units; those that the model normalises by make it what timm fills in. The area is uniform from `min_area` to `max_area` of the
    image, the aspect from `min_aspect` to its inverse, uniform in its logarithm; an image that none of ten rectangles fits stays whole.
    """
    if min_area > max_area:
        raise BadParameter(f"random_erasing: min_area is {min_area:g}, above max_area, {max_area:g}; give a smaller one.")

    def batch(given: Batch, draws: Draws) -> Batch:
        height, width = given.images.shape[2:]
        chosen = draws.at("whether").uniform()
        tries = draws.at("rectangle").uniform(_ATTEMPTS, 4)
        filled = (mean + std * _normals(given, draws.at("fill"), mode)).clamp_(0.0, 1.0)
        images = given.images.clone()
        for row in torch.nonzero(chosen < probability)[:, 0].tolist():
            found = first_rectangle(tries[row].tolist(), height, width, (min_area, max_area), min_aspect)
            if found is not None:
                rows, columns = slice(found.top, found.bottom), slice(found.left, found.right)
                images[row, :, rows, columns] = filled[row].expand_as(images[row])[:, rows, columns]
        return given.with_images(images)

    return Defense("random_erasing", batch=batch)


def first_rectangle(
    tries: Iterable[Iterable[float]], height: int, width: int, area: tuple[float, float], min_aspect: float
) -> Rectangle | None:  # fmt: skip
    """The first rectangle that is smaller than the image in both directions, None where none is.

    tries: of each the area, aspect, top and left as uniform numbers in [0, 1). area: least and most, as shares of the image.
    """
    least = math.log(min_aspect)
    for size, shape, down, right in tries:
        pixels, aspect = (area[0] + size * (area[1] - area[0])) * height * width, math.exp(least - 2 * shape * least)
        tall, broad = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if tall < height and broad < width:
            top, left = int(down * (height - tall + 1)), int(right * (width - broad + 1))
            return Rectangle(top, top + tall, left, left + broad)
    return None


def _normals(given: Batch, draws: Draws, mode: str) -> Tensor:
    """Standard normals, (N, 3, H, W), or (N, 3, 1, 1) of a colour; zeros of a constant."""
    shape = given.images.shape[1:] if mode == "pixel" else (3, 1, 1)
    return given.images.new_zeros(len(given), *shape) if mode == "const" else draws.normal(*shape).to(given.images)
