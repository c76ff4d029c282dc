"""Natural patch corruption: some square patches of the image are corrupted, the rest is clean."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives import patches
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.patches import CITATION
from robustvit.spec import registry

Corruption = Callable[[Tensor, Draws], Tensor]


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
