"""Bottlenecks beside the MLPs of a vision transformer (AdaptFormer)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.primitives.surgery.hosts import plain_vit


class AdaptedMLP(nn.Module):
    """An MLP beside a bottleneck of the same input: MLP(h) + scale · (relu(h · down) · up), h being the tokens after their norm.

    up begins at zero, so that it is the MLP alone until it is trained.
    """

    def __init__(self, mlp: nn.Module, width: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.mlp, self.scale = mlp, scale
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        with torch.no_grad():
            nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
            for zero in (self.down.bias, self.up.weight, self.up.bias):
                zero.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        beside: Tensor = self.up(self.down(tokens).relu())
        made: Tensor = self.mlp(tokens) + self.scale * beside
        return made


def adapt_blocks(module: nn.Module, bottleneck: int, scale: float) -> nn.Module:
    """Gives the MLP of every block of timm's plain vision transformer a bottleneck beside it, in place; returns the module. 0: none."""
    vit: Any = plain_vit(module)
    like = next(vit.parameters())
    for block in vit.blocks if bottleneck else ():
        block.mlp = AdaptedMLP(block.mlp, vit.embed_dim, bottleneck, scale).to(like)
    return module
