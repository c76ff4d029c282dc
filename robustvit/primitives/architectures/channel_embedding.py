"""Tokens of each patch in each channel: one convolution of one channel, and embeddings of channels and of places."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

_STD = 0.02  # of random weights


class ChannelEmbedding(nn.Module):
    """(N, C, H, W) normalised images → (N, C' · P, D) tokens, channel after channel, in the place of timm's patch embedding.

    The convolution is shared by channels, positions too; each channel has an embedding of its own. kept: the channels whose tokens there
    are, None for all.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **rest: Any) -> None:
        super().__init__()
        side = img_size // patch_size
        self.img_size, self.grid, self.channels, self.kept = (img_size, img_size), (side, side), in_chans, None
        self.num_patches, self.side = in_chans * side * side, patch_size
        self.proj = nn.Conv2d(1, embed_dim, patch_size, patch_size)
        self.channel = nn.Parameter(trunc_normal_(torch.empty(in_chans, 1, embed_dim), std=_STD))
        self.position = nn.Parameter(trunc_normal_(torch.empty(1, side * side, embed_dim), std=_STD))

    kept: tuple[int, ...] | None

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches, of each channel; timm's name of it."""
        return self.grid

    def set_input_size(self, img_size: tuple[int, int], patch_size: tuple[int, int] | None = None) -> None:
        """Takes images of another size from now on; positions stay those of the old one until they are resampled.

        Raises ValueError for another side of patches, of which timm resamples its own embedding alone.
        """
        if patch_size is not None:
            raise ValueError("tokens of single channels keep their side of patches.")
        self.img_size, self.grid = img_size, (img_size[0] // self.side, img_size[1] // self.side)
        self.num_patches = self.channels * self.grid[0] * self.grid[1]

    def forward(self, images: Tensor) -> Tensor:
        """The tokens of the channels that are kept."""
        chosen = range(self.channels) if self.kept is None else self.kept
        tokens = [self.proj(images[:, index : index + 1]).flatten(2).mT + self.position + self.channel[index] for index in chosen]
        return torch.cat(tokens, dim=1)


def channel_embedding(module: nn.Module) -> ChannelEmbedding | None:
    """The embedding of a model whose tokens are of single channels; None for any other."""
    return next((part for part in module.modules() if isinstance(part, ChannelEmbedding)), None)
