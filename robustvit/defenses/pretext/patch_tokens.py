"""Tokens of patches in a vision transformer that a pretext task trains: their embedding, fixed positions, and encoding."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

from robustvit.errors import HostRefused


def embedded(vit: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (N, L, D) without positions, prefix tokens (N, prefix, D) with theirs, and the positions of patches (L, D).

    images: normalised. No gradient flows into the positions.
    """
    patches = vit.patch_embed(images)
    embedding = vit._pos_embed(torch.zeros_like(patches[:1]))
    prefix, positions = embedding[:, : vit.num_prefix_tokens], embedding[0, vit.num_prefix_tokens :].detach()
    return patches, prefix.expand(len(patches), -1, -1), positions


def encoded(vit: Any, tokens: Tensor) -> Tensor:
    """(N, T, D): tokens after all blocks and the last norm."""
    made: Tensor = vit.norm(vit.blocks(vit.norm_pre(tokens)))
    return made


def rows_of(tokens: Tensor, index: Tensor) -> Tensor:
    """(N, n, D): of tokens (N, T, D) those that an index (N, n) names."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def fix_positions(vit: Any, defense: str) -> None:
    """Sets the position embeddings of patches to fixed sines and cosines, and those of prefix tokens to 0.

    Raises HostRefused, in a sentence that names the defense, for a model without position embeddings, or of a width that has no four parts.
    """
    if vit.pos_embed is None:
        raise HostRefused(f"'{defense}' takes models with position embeddings, and the model to train has none.")
    count, width = vit.patch_embed.num_patches, vit.embed_dim
    positions = sines(vit.patch_embed.grid_size, width, defense)
    with torch.no_grad():
        vit.pos_embed.zero_()
        vit.pos_embed[0, -count:] = positions.to(vit.pos_embed)
    vit.pos_embed.requires_grad_(False)


def sines(grid: tuple[int, int], width: int, defense: str) -> Tensor:
    """(L, width): fixed positions of the patches of a grid, sines and cosines. Raises HostRefused unless 4 divides the width."""
    if width % 4:
        raise HostRefused(f"'{defense}' sets positions to sines and cosines in four parts, and a width of {width} has none.")
    return build_sincos2d_pos_embed(list(grid), width)


def without(model: nn.Module, name: str) -> nn.Module:
    """A copy of the module that lacks its part of that name."""
    made = copy.deepcopy(model)
    delattr(made, name)
    return made
