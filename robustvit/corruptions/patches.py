"""Patches on images: natural patch corruption, and the adversarial patches of ImageNet-Patch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives import patches
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Data
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.patches import CITATION, patch_reader
from robustvit.spec import registry

Corruption = Callable[[Tensor, Draws], Tensor]
Turn = Annotated[float, Ge(0), Le(180)]
Share = Annotated[float, Ge(0), Le(1)]
Scale = Annotated[float, Gt(0), Le(10)]


@registry.corruption(
    severity="count",
    family="patches",
    source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), natural patch corruption",
    url="https://github.com/JindongGu/ViT_Patch_Robustness",
    licence="MIT (reference code; none of it is used)",
    citation=CITATION,
    rules="The whole image is corrupted and the chosen patches of it are pasted, as in the reference code; no patch is corrupted alone.",
)
def patch_corruption(
    images: Tensor, draws: Draws, *, corruption: Corruption, count: Whole | None = None, size: Count = 16, offset: Whole | None = 0
) -> Tensor:
    """Pastes patches of the corrupted image into the clean one: x + M · (C(x) − x). Count 0 is the identity.

    corruption: applied to the whole image, with the same draws as when it is used alone, hence the same pixels as in its own cell.
    count: number of patches, drawn per image; null takes all cells of the grid. An image has the same patches under all corruptions, and a
    smaller count takes the first of a larger one. size: side of a patch in pixels. offset: 0 for the grid that starts in the upper left
    corner, which is the token grid where `size` is a multiple of the token size; 8 shifts it by half a token of 16; null allows any
    position.
    """
    height, width = images.shape[-2:]
    if count is None and offset is None:
        raise BadParameter("corruption 'patch_corruption': count null means all cells of a grid; with offset null give a number.")
    patches.refuse_too_many(count or 0, height, width, size, offset, "corruption 'patch_corruption'")
    wanted = patches.max_patches(height, width, size, offset) if count is None else count
    at = patches.random_places(draws.at("patches"), wanted, height, width, size, offset)
    return patches.paste(images, corruption(images, draws), patches.patch_mask(at, size, height, width))


@registry.corruption(
    family="patches",
    source="Pintor et al. 2023, ImageNet-Patch: A Dataset for Benchmarking Machine Learning Robustness against Adversarial Patches",
    url="https://github.com/pralab/ImageNet-Patch",
    licence="CC BY 4.0 (the patches, which you bring); GPL-3.0 (the authors' code, none of which is used)",
    citation="""@article{pintor2023imagenet,
  title={{ImageNet-Patch}: A Dataset for Benchmarking Machine Learning Robustness against Adversarial Patches},
  author={Pintor, Maura and Angioni, Daniele and Sotgiu, Angelo and Demetrio, Luca and Demontis, Ambra and Biggio, Battista and
          Roli, Fabio},
  journal={Pattern Recognition},
  volume={134},
  pages={109064},
  year={2023}
}""",
    rules="Every image gets the patch, also those that are misclassified without it, and is not rounded to 8 bits. Ranges of rotation, "
    "translation and scale are those of the authors' example.",
    tells=("value_target",),
)
def imagenet_patch(
    images: Tensor, draws: Draws,
    *, patches: Data, patch: Whole | None = None, rotation: Turn = 45.0, translation: Share = 0.2,
    smallest: Scale = 0.7, largest: Scale = 1.0,
) -> Crafted:  # fmt: skip
    """Puts an adversarial patch of ImageNet-Patch on every image, at an angle, place and size drawn for that image.

    patches: `imagenet-patch`, your copy of the file; images must have its size, 224 px. patch: which of them, from 0; null draws one for
    each image. An image has the same placement under all patches. rotation: degrees, either way, about the middle of the image.
    translation: whole pixels, either way, up to this share of the width and of the height. smallest, largest: range of the scale. The
    nearest pixel of the patch is taken; other pixels of the image keep their bits. value_target: the class of ImageNet-1k that the patch
    was made for.
    """
    who = "corruption 'imagenet_patch'"
    ready = patch_reader(patches, who)
    if images.shape[1:] != ready.pixels.shape[1:]:
        size, own = ("x".join(str(side) for side in one.shape[2:]) for one in (ready.pixels, images))
        raise BadParameter(f"{who}: its patches are for images of {size}, these are {own}. Choose a model of that size, or --img-size.")
    if smallest > largest:
        raise BadParameter(f"{who}: smallest is {smallest:g}, which is above largest, {largest:g}.")
    if patch is not None and patch >= len(ready.pixels):
        raise BadParameter(f"{who}: patch is {patch}; the file has {len(ready.pixels)}, 0 to {len(ready.pixels) - 1}.")
    drawn = draws.at("patch").integers(1, low=0, high=len(ready.pixels))[:, 0].to(images.device)
    chosen = drawn if patch is None else torch.full_like(drawn, patch)
    row, column = _sources(draws.at("placement").uniform(4).to(images.device).double(), images, rotation, translation, (smallest, largest))
    covered = _in_the_middle(row, ready.side, images.shape[2]) & _in_the_middle(column, ready.side, images.shape[3])
    moved = ready.pixels.to(images)[chosen[:, None, None], :, row.clamp(0, images.shape[2] - 1), column.clamp(0, images.shape[3] - 1)]
    targets = torch.as_tensor(patches.labels.copy(), device=images.device)[chosen]
    return Crafted(torch.where(covered[:, None], moved.permute(0, 3, 1, 2), images), {"value_target": targets.float()})


def _sources(uniforms: Tensor, images: Tensor, rotation: float, translation: float, scales: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The row and column that each pixel shows of an image that is scaled, rotated clockwise about its middle, and moved, (N, H, W) int64.

    uniforms: (N, 4) float64 in [0, 1): angle, scale, and the movement across and down.
    """
    height, width = images.shape[2:]
    angle = (2 * uniforms[:, 0] - 1) * math.radians(rotation)
    scale = scales[0] + (scales[1] - scales[0]) * uniforms[:, 1]
    across, down = (((2 * uniforms[:, 2 + axis] - 1) * translation * side).round() for axis, side in enumerate((width, height)))
    x = (torch.arange(width, device=images.device) - (width - 1) / 2 - across[:, None])[:, None, :]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2 - down[:, None])[:, :, None]
    cosine, sine = ((one / scale)[:, None, None] for one in (angle.cos(), angle.sin()))
    row, column = y * cosine - x * sine + (height - 1) / 2, x * cosine + y * sine + (width - 1) / 2
    return row.round().long(), column.round().long()


def _in_the_middle(at: Tensor, side: int, size: int) -> Tensor:
    first = size // 2 - side // 2
    return (at >= first) & (at < first + side)
