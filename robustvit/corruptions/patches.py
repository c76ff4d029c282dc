"""Natural patch corruption: some squares of the picture are as a corruption leaves them, the rest is untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives import patches
from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import CITATION
from robustvit.spec import registry

Corruption = Callable[[Tensor, Draws], Tensor]
Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]


@registry.corruption(
    severity="count",
    family="patches",
    source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), natural patch corruption",
    url="https://github.com/JindongGu/ViT_Patch_Robustness",
    licence="MIT (reference code; none of it is used)",
    citation=CITATION,
    rules="The whole picture is corrupted, and then only the chosen patches of it are shown, as in the reference code; no patch is corrupted by itself.",
)
def patch_corruption(
    images: Tensor, draws: Draws, *, corruption: Corruption, count: Whole | None = None, size: Count = 16, offset: Whole | None = 0
) -> Tensor:
    """Squares of the corrupted picture pasted into the clean one: x + M · (C(x) − x). Count 0 is the identity.

    corruption: what is done to the whole picture, with the very draws that it has alone: its pixels are those of its own cell. count: patches,
    drawn for each picture; null takes all cells of the grid. The patches of a picture are the same under all corruptions, and fewer are the first of
    more. size: their side in pixels. offset: 0 for cells of the grid that begins in the upper left corner, which is the token grid where `size` is a
    multiple of a token; 8 moves it by half a token of 16; null lets patches lie at any pixel.
    """
    height, width = images.shape[-2:]
    if count is None and offset is None:
        raise BadParameter("corruption 'patch_corruption': count null stands for all cells of a grid; with offset null give a number.")
    patches.refuse_too_many(count or 0, height, width, size, offset, "corruption 'patch_corruption'")
    wanted = patches.max_patches(height, width, size, offset) if count is None else count
    at = patches.random_places(draws.at("patches"), wanted, height, width, size, offset)
    return patches.paste(images, corruption(images, draws), patches.patch_mask(at, size, height, width))
