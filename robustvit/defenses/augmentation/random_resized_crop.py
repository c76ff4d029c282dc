"""Random resized crops, with flips and changes of colour: the weak augmentation of recipes for natural images."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import interpolate

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.spec.registry import defense

Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Box: TypeAlias = tuple[int, int, int, int]

_CITATION = """@inproceedings{szegedy2015going,
  title={Going Deeper with Convolutions},
  author={Szegedy, Christian and Liu, Wei and Jia, Yangqing and Sermanet, Pierre and Reed, Scott and Anguelov, Dragomir and Erhan, Dumitru
          and Vanhoucke, Vincent and Rabinovich, Andrew},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2015}
}"""
_ATTEMPTS = 10  # boxes drawn for an image until one fits, as torchvision does
_ASPECT = 4 / 3
_LUMA = (0.2989, 0.587, 0.114)  # with the digits that torchvision has


@defense(
    family="augmentation", source="Szegedy et al. 2015, as torchvision has it", url="https://arxiv.org/abs/1409.4842", citation=_CITATION,
    rules="Differs from torchvision's usual place: crops are of images at the model's size, after its view, and not of the whole files.",
)  # fmt: skip
def random_resized_crop(*, scale: Annotated[float, Gt(0), Le(1)] = 0.08, flip: Share = 0.5, jitter: NonNegative = 0.0) -> Defense:
    """A random part of each image, resized to the whole: of `scale` to 1 of its area, and an aspect from 3/4 to 4/3.

    scale: the smallest share. flip: probability of a mirror image; 0 for digits. jitter: brightness, contrast and saturation are multiplied
    by factors from 1 − jitter (at least 0) to 1 + jitter, in this order; 0.4 in recipes. Resizing is bicubic, clipped to [0, 1].
    """

    def batch(given: Batch, draws: Draws) -> Batch:
        height, width = given.images.shape[2:]
        tries, corners = draws.at("box").uniform(_ATTEMPTS, 2).tolist(), draws.at("corner").uniform(2).tolist()
        mirrored = (draws.at("flip").uniform() < flip).tolist()
        factors = draws.at("jitter").uniform(3, low=max(0.0, 1 - jitter), high=1 + jitter).tolist()
        rows = [
            _made(image, box_of(tries[row], corners[row], height, width, scale), mirrored[row], factors[row] if jitter else [])
            for row, image in enumerate(given.images)
        ]
        return given.with_images(torch.stack(rows))

    if jitter > 1:
        raise BadParameter(f"random_resized_crop: jitter is {jitter:g}; it takes a number from 0 to 1.")
    return Defense("random_resized_crop", batch=batch)


def box_of(tries: list[list[float]], corner: list[float], height: int, width: int, scale: float) -> Box:
    """Top, left, height and width of the first box that fits, or of the whole image. tries: uniform numbers for area and aspect."""
    for area, aspect in tries:
        size = height * width * (scale + (1 - scale) * area)
        ratio = math.exp(math.log(_ASPECT) * (2 * aspect - 1))
        wide, high = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(corner[0] * (height - high + 1)), int(corner[1] * (width - wide + 1)), high, wide
    return 0, 0, height, width


def _made(image: Tensor, box: Box, mirrored: bool, factors: list[float]) -> Tensor:
    top, left, high, wide = box
    part = image[:, top : top + high, left : left + wide]
    made = interpolate(part[None], image.shape[1:], mode="bicubic", antialias=True)[0].clamp(0, 1)
    made = made.flip(2) if mirrored else made
    return jittered(made, *factors) if factors else made


def jittered(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """An image (3, H, W) in [0, 1] after changes of brightness, contrast and saturation by factors, in this order, each clipped."""
    made = (image * brightness).clamp(0, 1)
    made = (contrast * made + (1 - contrast) * _grey(made).mean()).clamp(0, 1)
    return (saturation * made + (1 - saturation) * _grey(made)).clamp(0, 1)


def _grey(image: Tensor) -> Tensor:
    """The luma of ITU-R 601-2, (1, H, W)."""
    return (image * torch.tensor(_LUMA, device=image.device)[:, None, None]).sum(dim=0, keepdim=True)
