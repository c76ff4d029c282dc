"""HiLo attention: some heads attend within windows, the others from every token to averages of windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter

PARTS = ("hi", "lo")


class HiLoAttention(nn.Module):
    """(N, H, W, D) → (N, H, W, D), as in LITv2 (Pan et al. 2022): the channels of high-frequency heads, then those of low-frequency ones.

    alpha: share of the heads that are low-frequency, rounded down; their keys and values are means over windows of window × window tokens.
    The other heads attend within each window. With window 1 all heads attend between all tokens, whatever alpha. lesion: the part whose
    output is zero, "" for none. Raises BadParameter for a width that heads do not divide.
    """

    def __init__(self, width: int, heads: int, alpha: float, window: int) -> None:
        super().__init__()
        if width % heads:
            raise BadParameter(f"a width of {width} does not divide into {heads} heads.")
        size = width // heads
        self.window, self.size, self.lesion = window, size, ""
        self.low_heads = heads if window == 1 else int(heads * alpha)
        self.high_heads = heads - self.low_heads
        high, low = self.high_heads * size, self.low_heads * size
        self.high_qkv = nn.Linear(width, 3 * high) if high else None
        self.high_proj = nn.Linear(high, high) if high else None
        self.low_q = nn.Linear(width, low) if low else None
        self.low_kv = nn.Linear(width, 2 * low) if low else None
        self.low_proj = nn.Linear(low, low) if low else None

    def forward(self, tokens: Tensor) -> Tensor:
        """The mixed map. Raises BadParameter for a map that windows do not divide."""
        height, width = tokens.shape[1:3]
        if height % self.window or width % self.window:
            raise BadParameter(f"a map of {height}x{width} tokens does not divide into windows of {self.window}x{self.window}.")
        parts = {"hi": self._high(tokens), "lo": self._low(tokens)}
        return torch.cat([torch.zeros_like(one) if part == self.lesion else one for part, one in parts.items() if one is not None], dim=-1)

    def _high(self, tokens: Tensor) -> Tensor | None:
        if self.high_qkv is None or self.high_proj is None:
            return None
        count, height, width, _ = tokens.shape
        down, across, side = height // self.window, width // self.window, self.window
        windows = tokens.view(count, down, side, across, side, -1).transpose(2, 3).reshape(count * down * across, side * side, -1)
        query, key, value = self.high_qkv(windows).unflatten(-1, (3, self.high_heads, self.size)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        mapped = mixed.view(count, down, across, side, side, -1).transpose(2, 3).reshape(count, height, width, -1)
        return self.high_proj(mapped)  # type: ignore[no-any-return]

    def _low(self, tokens: Tensor) -> Tensor | None:
        if self.low_q is None or self.low_kv is None or self.low_proj is None:
            return None
        pooled = functional.avg_pool2d(tokens.permute(0, 3, 1, 2), self.window).flatten(2).mT
        query = self.low_q(tokens.flatten(1, 2)).unflatten(-1, (self.low_heads, self.size)).transpose(1, 2)
        key, value = self.low_kv(pooled).unflatten(-1, (2, self.low_heads, self.size)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.low_proj(mixed).view(*tokens.shape[:3], -1)  # type: ignore[no-any-return]


def hilo_layers(module: nn.Module) -> list[HiLoAttention]:
    """The HiLo attention of every block."""
    return [part for part in module.modules() if isinstance(part, HiLoAttention)]
