"""Token-aware average pooling: attention is given, in place of each patch token, a weighted mean of those around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.surgery.hosts import plain_vit

_AROUND = 3  # the side of each pool, in patches, as of the convolutions that weigh them
_CELLS = _AROUND**2


class TokenAwarePooling(nn.Module):
    """Of each patch token the mean over 3 x 3 pools of several dilations, weighted by the tokens around it; prefix tokens stay.

    Pool 0 is the token itself, pool d the mean over nine tokens d patches apart, zeros beyond the edge included. The weights are the
    softmax over pools of a convolution, a batch normalisation and another convolution, without biases.
    """

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, width: int, scales: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__()
        self.scales, self.grid, self.prefix = scales, grid, prefix
        self.reduce = nn.Conv2d(width, scales, _AROUND, padding=_AROUND // 2, bias=False)
        self.norm = nn.BatchNorm2d(scales)
        self.weigh = nn.Conv2d(scales, scales, _AROUND, padding=_AROUND // 2, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D). Raises ModelError for other tokens than the prefix and those of the whole grid."""
        rows, columns = self.grid
        if tokens.shape[1] != self.prefix + rows * columns:
            raise ModelError(
                f"token-aware pooling averages neighbouring tokens and takes all {rows}x{columns} of an image, not "
                f"{tokens.shape[1] - self.prefix}; nothing may drop or merge them before."
            )
        patches = tokens[:, self.prefix :].transpose(1, 2).reshape(len(tokens), -1, rows, columns)
        pooled = self.pool(patches, self.weights(patches)).flatten(2).transpose(1, 2)
        return torch.cat((tokens[:, : self.prefix], pooled), dim=1)

    def weights(self, patches: Tensor) -> Tensor:
        """(N, scales, h, w): the weight of each pool at each patch, of patch tokens (N, D, h, w); they sum to 1."""
        found: Tensor = self.weigh(self.norm(self.reduce(patches))).softmax(dim=1)
        return found

    def pool(self, patches: Tensor, weights: Tensor) -> Tensor:
        """(N, D, h, w): the weighted sum of the pools of patch tokens (N, D, h, w). weights: (N, scales, h, w)."""
        total = patches * weights[:, :1]
        for dilation in range(1, self.scales):
            total = total + _mean_around(patches, dilation) * weights[:, dilation : dilation + 1]
        return total


class PooledNorm(nn.Module):
    """The norm before attention of a block, of pooled tokens."""

    def __init__(self, pooling: TokenAwarePooling, norm: nn.Module) -> None:
        super().__init__()
        self.pooling, self.norm = pooling, norm

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        normed: Tensor = self.norm(self.pooling(tokens))
        return normed


def pool_before_attention(module: nn.Module, scales: int) -> nn.Module:
    """Puts token-aware pooling before the attention of every block of timm's plain vision transformer, in place; returns the module.

    Residuals and MLPs see the tokens themselves. One scale is the token alone, and changes nothing. Weights are drawn by torch's generator,
    as for any convolution.
    """
    vit: Any = plain_vit(module)
    for block in vit.blocks if scales > 1 else ():
        pooling = TokenAwarePooling(vit.embed_dim, scales, tuple(vit.patch_embed.grid_size), vit.num_prefix_tokens)
        block.norm1 = PooledNorm(pooling.to(next(vit.parameters())), block.norm1)
    return module


def _mean_around(patches: Tensor, dilation: int) -> Tensor:
    """The mean over nine patches so far apart around each, (N, D, h, w); those beyond the edge count as zeros."""
    for axis in (2, 3):  # a mean over a square is one over columns of means over rows
        edge = (dilation, dilation, 0, 0) if axis == 3 else (0, 0, dilation, dilation)
        wide, length = functional.pad(patches, edge), patches.shape[axis]
        before, own, after = (wide.narrow(axis, start * dilation, length) for start in range(_AROUND))
        patches = before + own + after
    return patches / _CELLS
