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
        self.grid, self.channels, self.kept = (side, side), in_chans, None
        self.num_patches = in_chans * side * side
        self.proj = nn.Conv2d(1, embed_dim, patch_size, patch_size)
        self.channel = nn.Parameter(trunc_normal_(torch.empty(in_chans, 1, embed_dim), std=_STD))
        self.position = nn.Parameter(trunc_normal_(torch.empty(1, side * side, embed_dim), std=_STD))

    kept: tuple[int, ...] | None

    def forward(self, images: Tensor) -> Tensor:
        """The tokens of the channels that are kept."""
        chosen = range(self.channels) if self.kept is None else self.kept
        tokens = [self.proj(images[:, index : index + 1]).flatten(2).mT + self.position + self.channel[index] for index in chosen]
        return torch.cat(tokens, dim=1)


def channel_embedding(module: nn.Module) -> ChannelEmbedding | None:
    """The embedding of a model whose tokens are of single channels; None for any other."""
    return next((part for part in module.modules() if isinstance(part, ChannelEmbedding)), None)
