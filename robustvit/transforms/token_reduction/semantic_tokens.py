"""Semantic tokens: from some block on, means over the grid of patches take the place of patch tokens."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.token_reduction import TokenPolicy, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import NO_PATCH, Tokens
from robustvit.spec.registry import transform

Natural: TypeAlias = Annotated[int, Ge(0)]

CITATION = """@inproceedings{chang2023stvit,
  title={Making Vision Transformers Efficient from A Token Sparsification View},
  author={Chang, Shuning and Wang, Pichao and Lin, Ming and Wang, Fan and Zhang, David Junhao and Jin, Rong and Shou, Mike Zheng},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Chang et al. 2023 (STViT), its initial tokens alone", url="https://arxiv.org/abs/2303.08685",
    citation=CITATION, licence="the authors' code is MIT; this is written from the paper",
    rules="Not the method of the paper, but what is left of it without training: no cross attention from semantic tokens to patches, no "
    "learned embeddings (stvit learns both), no recovery of patches; average in place of maximum pooling. Report it as pooling of tokens, "
    "beside no figure of theirs. Gradients are exact, and there is no choice that they could be blind to.",
    hosts="plain-patches", no_op="count=0",
)  # fmt: skip
def semantic_tokens(model: Classifier, *, count: Natural = 16, at: Natural = 4) -> Classifier:
    """Patch tokens pooled over their grid (the start of STViT's semantic tokens, Chang et al. 2023): fewer tokens from one block on.

    count: how many patch tokens there are from then on, a square number s · s: each is the mean of its window of the grid under adaptive
    average pooling to s rows and s columns; 0 changes nothing. at: the first block that computes them, counted from 0. Prefix tokens
    stay. The tokens are at no patch's place, and each stands for an equal share of the patches. Raises BadParameter for a count that is no
    square or has more rows than the grid, for a block that the model does not have, and where patch tokens are reduced before that block.
    """
    if not count:
        return changed(model, unchanged)
    check_block("semantic_tokens", model, at)
    return reduce_tokens(model, GridPooling(*side_and_grid("semantic_tokens", model, count), at))


def check_block(transform: str, model: Classifier, at: int) -> None:
    """Raises BadParameter for a block that the model does not have."""
    if at >= depth_of(model):
        raise BadParameter(
            f"transform '{transform}': at is {at}; it takes one of the {depth_of(model)} blocks of model '{model.card.label}', counted "
            f"from 0: 0 … {depth_of(model) - 1}."
        )


def side_and_grid(transform: str, model: Classifier, count: int) -> tuple[int, tuple[int, int]]:
    """The rows and columns of so many pooled tokens, and those of the patches; raises BadParameter for a count that has none."""
    patch = plain_vit(model.model).patch_embed.patch_size
    size = computed_size(model)
    grid = (size[0] // patch[0], size[1] // patch[1])
    side = math.isqrt(count)
    if side * side != count or side > min(grid):
        allowed = ", ".join(str(one * one) for one in range(1, min(grid) + 1))
        raise BadParameter(
            f"transform '{transform}': count is {count}; on the grid of {grid[0]}x{grid[1]} patches of model '{model.card.label}' it "
            f"takes 0, {allowed}."
        )
    return side, grid


class GridPooling(TokenPolicy):
    """Pools patch tokens over their grid before the block `at`. side: rows and columns then; grid: those of patches."""

    transform = "semantic_tokens"

    def __init__(self, side: int, grid: tuple[int, int], at: int) -> None:
        super().__init__()
        self.side, self.at, self.grid = side, at, grid

    def at_input(self, tokens: Tokens, images: Tensor) -> Tokens:
        """The pooled tokens, where the first block computes them."""
        return tokens if self.at else self.pooled(tokens)

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """The pooled tokens, where the next block is the first that computes them."""
        return self.pooled(tokens) if index + 1 == self.at else tokens

    def pooled(self, tokens: Tokens) -> Tokens:
        """The pooled tokens behind the prefix. Raises BadParameter where patch tokens were reduced before."""
        rows, patches = tokens.places.shape
        if patches != self.grid[0] * self.grid[1]:
            raise BadParameter(
                f"transform '{self.transform}': {patches} patch tokens are left before block {self.at}, and it pools the whole grid of "
                f"{self.grid[0]}x{self.grid[1]}; reduce tokens at later blocks, or choose a smaller `at`."
            )
        raster, count = tokens.take(tokens.places.argsort(dim=1, stable=True)), self.side * self.side

        def pooled(of: Tensor) -> Tensor:
            weights = _windows(self.grid, self.side, of).expand(rows, -1, -1)
            means = weights @ raster.patch(of).reshape(rows, patches, -1)
            return torch.cat((of[:, : tokens.prefix], means.view(rows, count, *of.shape[2:])), dim=1)

        sizes = torch.cat((tokens.sizes[:, : tokens.prefix], tokens.sizes.new_full((rows, count), patches / count)), dim=1)
        columns = {name: pooled(column) for name, column in raster.columns.items()}
        places = tokens.places.new_full((rows, count), NO_PATCH)
        return tokens.having(values=pooled(raster.values), sizes=sizes, places=places, columns=columns, merged=True)


def _windows(grid: tuple[int, int], side: int, like: Tensor) -> Tensor:
    """(side · side, patches): what each patch weighs in each pooled token; a product with it has the same gradient bits every time."""
    patches = grid[0] * grid[1]
    identity = torch.eye(patches, dtype=like.dtype, device=like.device).view(patches, 1, *grid)
    return functional.adaptive_avg_pool2d(identity, side).view(patches, side * side).T
