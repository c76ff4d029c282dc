"""Positions from a depth-wise convolution of patch tokens in place of a learned map (the position encoding generator of CPVT)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.surgery.hosts import plain_vit

_SIDE = 3  # of the kernel, in patches


class PositionConvolution(nn.Module):
    """A map plus its depth-wise 3x3 convolution: x + conv(x), with a bias.

    circular: the border is padded with the opposite side, so that circular shifts of whole patches commute with it; else with zeros, by
    which alone it tells where a token lies.
    """

    def __init__(self, width: int, circular: bool) -> None:
        super().__init__()
        mode: Literal["circular", "zeros"] = "circular" if circular else "zeros"
        self.conv = nn.Conv2d(width, width, _SIDE, padding=_SIDE // 2, groups=width, padding_mode=mode)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, h, w) → (N, D, h, w)."""
        made: Tensor = features + self.conv(features)
        return made


class PositionedBlock(nn.Module):
    """A block, and behind it a position convolution of its patch tokens; prefix tokens stay.

    grid: rows and columns of patches. resampled: whether it takes other grids of the same proportions.
    """

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, block: nn.Module, positions: PositionConvolution, grid: tuple[int, int], prefix: int, resampled: bool) -> None:
        super().__init__()
        self.block, self.positions = block, positions
        self.grid, self.prefix, self.resampled = grid, prefix, resampled

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(N, T, D) → (N, T, D). Raises ModelError for tokens that are not those of a whole grid."""
        found: Tensor = self.block(tokens, attn_mask=attn_mask, is_causal=is_causal)
        patches = found[:, self.prefix :]
        maps = patches.transpose(1, 2).reshape(len(patches), -1, *self._grid(patches.shape[1]))
        placed = self.positions(maps)
        return torch.cat((found[:, : self.prefix], placed.flatten(2).transpose(1, 2)), dim=1)

    def _grid(self, count: int) -> tuple[int, int]:
        rows, columns = self.grid
        scaled = round((count * rows / columns) ** 0.5)
        if count != rows * columns and not (self.resampled and scaled * (scaled * columns // rows) == count):
            raise ModelError(
                f"the position convolution takes all {rows}x{columns} patch tokens of an image, not {count}; nothing may drop or merge "
                "them before."
            )
        return self.grid if count == rows * columns else (scaled, count // scaled)


def generate_positions(module: nn.Module, at: tuple[int, ...], circular: bool) -> nn.Module:
    """Puts a position convolution behind these blocks of timm's plain vision transformer and drops its position embedding, in place.

    Returns the module. Weights are drawn by torch's generator, as for any convolution; with weights of zero it is the host without
    positions.
    """
    vit: Any = plain_vit(module)
    like = next(vit.parameters())
    grid, prefix = tuple(vit.patch_embed.grid_size), vit.num_prefix_tokens
    blocks = list(vit.blocks)
    for index in at:
        made = PositionConvolution(vit.embed_dim, circular).to(like)
        blocks[index] = PositionedBlock(blocks[index], made, grid, prefix, bool(vit.dynamic_img_size))
    vit.blocks = nn.Sequential(*blocks)
    drop_positions(vit)
    return module


def drop_positions(vit: Any) -> None:
    """Takes the learned position embedding out of timm's plain vision transformer or DeiT, in place.

    DeiT's distilled one adds zeros in its place, which no checkpoint holds. Raises HostRefused for a model that has none.
    """
    learned = vit.pos_embed
    if learned is None or not isinstance(learned, nn.Parameter):
        raise HostRefused("it has no learned position embedding that could be replaced.")
    del vit.pos_embed
    if hasattr(vit, "dist_token"):
        vit.register_buffer("pos_embed", torch.zeros_like(learned), persistent=False)
    else:
        vit.pos_embed = None


def pool_patches(vit: Any) -> None:
    """Makes timm's plain vision transformer read its logits from the mean of patch tokens, in place. Raises HostRefused where it cannot."""
    if hasattr(vit, "dist_token") or vit.attn_pool is not None:
        raise HostRefused("its head reads two tokens, or pools by attention, and has no mean of patch tokens.")
    vit.global_pool = "avg"
