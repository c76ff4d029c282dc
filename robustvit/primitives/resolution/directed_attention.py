"""Attention of heads that each look into a field of view, with scores that fall with distance: LookHere's position encoding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from robustvit.errors import HostRefused, ModelError, with_article
from robustvit.primitives.structure.attention_forms import FormedAttention
from robustvit.primitives.surgery.hosts import unwalked

FieldOfView = Literal["180", "90", "45", "none"]
"""In degrees, of the heads that have a direction."""

_AT_ONCE = 1 << 23  # entries of a layer's bias that are made at once; beyond it one head after another, and again for gradients


class Head(NamedTuple):
    """Where a head looks: any position, or the keys for which `sees(down, right)` holds; and how fast its scores fall with distance."""

    sees: Callable[[Tensor, Tensor], Tensor] | None
    slope: float


def directed_heads(field: FieldOfView, count: int) -> list[Head]:
    """The heads of a layer: two thirds with directions, in turns, and one third without.

    The slope of the former halves after each four, from 1/2; that of the latter is a quarter of the one before, from 1/4, at most four.
    """
    directions = _DIRECTIONS[field]
    directed = round(count * 2 / 3)
    free = count - directed
    slopes = [4.0 ** -(1 + place * min(free, 4) // free) for place in range(free)]
    return [Head(directions[place % len(directions)], 0.5 ** (1 + place // 4)) for place in range(directed)] + [
        Head(None, slope) for slope in slopes
    ]


def head_bias(head: Head, grid: tuple[int, int], prefix: int, scale: float, like: Tensor) -> Tensor:
    """(T, T): what is added to a head's scores, rows are queries: −scale · slope · distance in patches, −∞ outside its field of view.

    Prefix tokens see and are seen by all. scale: of the layer. like: of the dtype and device that it has.
    """
    high, wide = grid
    down = torch.arange(1 - high, high, device=like.device)[:, None]
    right = torch.arange(1 - wide, wide, device=like.device)[None, :]
    table = (down.square() + right.square()).to(like.dtype).sqrt().mul(-scale * head.slope)  # of a key so far from its query
    if head.sees is not None:
        table = table.masked_fill(~head.sees(down, right), -math.inf)
    windows = table.unfold(0, high, 1).unfold(1, wide, 1).flip(0, 1)  # (rows, columns) of queries, then of keys
    found = table.new_zeros(prefix + high * wide, prefix + high * wide)
    found[prefix:, prefix:] = windows.reshape(high * wide, high * wide)
    return found


class DirectedAttention(FormedAttention):
    """timm's attention with the biases of `head_bias` in place of position embeddings; they are made anew in each pass, and never kept.

    grid: rows and columns of patches that the model was built for; of another number of tokens the grid is taken to be square. prefix: how
    many tokens are of no patch. scale: of the layer.
    """

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, attention: Any, field: FieldOfView, grid: tuple[int, int], prefix: int, scale: float) -> None:
        super().__init__(attention)
        self.heads, self.grid, self.prefix, self.slope_of_layer = directed_heads(field, self.num_heads), grid, prefix, scale

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, T, d): values weighed by attention."""
        tokens = key.shape[-2]
        grid = self._grid(tokens - self.prefix)
        dropped = self.attn_drop.p if self.training else 0.0

        def attended(head: Head | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            chosen = self.heads if head is None else [head]
            bias = torch.stack([head_bias(one, grid, self.prefix, self.slope_of_layer, query) for one in chosen])
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=self.scale, dropout_p=dropped)

        if self.num_heads * tokens**2 <= _AT_ONCE:
            return attended(None, query, key, value)
        found = []
        for place, head in enumerate(self.heads):
            parts = [one[:, place : place + 1] for one in (query, key, value)]
            followed = torch.is_grad_enabled() and any(one.requires_grad for one in parts)
            found.append(checkpoint(attended, head, *parts, use_reentrant=False) if followed else attended(head, *parts))
        return torch.cat(found, dim=1)

    def _grid(self, patches: int) -> tuple[int, int]:
        if patches == self.grid[0] * self.grid[1]:
            return self.grid
        side = math.isqrt(patches)
        if side**2 != patches:
            raise ModelError(f"{patches} patches are no square, and directed attention needs to know where each one is.")
        return side, side


def direct_attention(module: nn.Module, field: FieldOfView, layers: tuple[float, float]) -> nn.Module:
    """Replaces the position embedding of timm's plain vision transformer by directed attention, in place; returns the module.

    layers: the scale of the first and the last layer, linear between. Raises HostRefused for attention of another type than timm's.
    """
    vit = unwalked(module, "lookhere")
    blocks = list(vit.blocks)
    for place, block in enumerate(blocks):
        if not hasattr(block, "attn"):
            raise HostRefused(f"its blocks are of the type {type(block).__name__}, whose attention has no directions; name lookhere first.")
        if type(block.attn).__name__ != "Attention":
            raise HostRefused(f"its attention is {with_article(type(block.attn).__name__)}, and only timm's own takes directions.")
        share = place / max(len(blocks) - 1, 1)
        scale = layers[0] + share * (layers[1] - layers[0])
        grid = tuple(vit.patch_embed.grid_size)
        block.attn = DirectedAttention(block.attn, field, grid, vit.num_prefix_tokens, scale)
    _without_positions(vit)
    return module


def _without_positions(vit: Any) -> None:
    """timm's distilled transformer adds its position embedding whatever it is: zeros, which are no weights."""
    own = vit.pos_embed
    if own is None:
        return
    zeros = torch.zeros_like(own)
    del vit.pos_embed
    if type(vit).__name__ == "VisionTransformerDistilled":
        vit.register_buffer("pos_embed", zeros, persistent=False)
    else:
        vit.pos_embed = None


def _half(up: int, left: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The half plane of keys above (up 1) or below (−1), or to the left (1) or right (−1), with the own row or column."""
    return lambda down, right: (down * up + right * left) <= 0


def _quarter(up: int, left: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The triangle of 90 degrees in a direction, with its edges."""
    return lambda down, right: (down.abs() <= -left * right) if left else (right.abs() <= -up * down)


def _eighth(up: int, left: int, side: int) -> Callable[[Tensor, Tensor], Tensor]:
    """That half of a triangle that lies on one side of its axis, with its edges. side: 1 is left or above."""
    quarter = _quarter(up, left)
    return lambda down, right: quarter(down, right) & ((down if left else right) * side <= 0)


_FOUR = ((1, 0), (-1, 0), (0, 1), (0, -1))  # up, down, left, right
_DIRECTIONS: dict[str, list[Callable[[Tensor, Tensor], Tensor]]] = {
    "180": [_half(*one) for one in _FOUR],
    "90": [_quarter(*one) for one in _FOUR],
    "45": [_eighth(*one, side) for side in (1, -1) for one in _FOUR],
}
