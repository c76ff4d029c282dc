"""Attention of heads that each begin by attending to one neighbour of a patch, which together compute a convolution of the patch tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter, HostRefused, ModelError, with_article
from robustvit.primitives.structure.attention_forms import FormedAttention
from robustvit.primitives.surgery.hosts import unwalked


class ConvolutionalAttention(FormedAttention):
    """timm's attention with a bias of relative positions, whose first kernel² heads begin as the taps of a convolution.

    The scores of head h between a query at p and a key at p' are content[h] · q·k/√d + positions[h, p' − p]. At first content is 0 and
    positions is `sharpness` at the head's own offset, 0 elsewhere: up to e^−sharpness the head copies the values of that neighbour, and the
    sum over heads of their projections is a convolution of what the attention is given. Where the neighbour lies beyond the grid, a head
    gives zeros, and does so after training, too. Prefix tokens have no place: of those heads they attend to all tokens alike at first.
    Further heads begin as timm's, with content 1 and positions 0. grid: rows and columns of patches. prefix: how many tokens are of none.
    """

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, attention: Any, kernel: int, sharpness: float, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(attention)
        self.taps, self.grid, self.prefix = tap_offsets(kernel), grid, prefix
        content, positions = torch.ones(self.num_heads), torch.zeros(self.num_heads, *(2 * side - 1 for side in grid))
        for head, (down, right) in enumerate(self.taps):
            content[head] = 0.0
            if abs(down) < grid[0] and abs(right) < grid[1]:
                positions[head, grid[0] - 1 + down, grid[1] - 1 + right] = sharpness
        self.content, self.positions = nn.Parameter(content), nn.Parameter(positions)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, T, d): values weighed by attention. Raises ModelError for tokens that are not those of the whole grid."""
        rows, columns = self.grid
        if key.shape[-2] != self.prefix + rows * columns:
            raise ModelError(
                f"the convolutional attention takes all {rows}x{columns} patch tokens of an image, not {key.shape[-2] - self.prefix}; "
                "nothing may drop, merge or add any before."
            )
        dropped = self.attn_drop.p if self.training else 0.0
        scaled = query * self.content.to(query.dtype)[:, None, None]
        bias = self.bias().to(query.dtype)[None]
        mixed = functional.scaled_dot_product_attention(scaled, key, value, attn_mask=bias, scale=self.scale, dropout_p=dropped)
        return mixed * self.inside().to(mixed)[:, :, None]

    def bias(self) -> Tensor:
        """(heads, T, T): what is added to scores; rows are queries."""
        rows, columns = self.grid
        windows = self.positions.unfold(1, rows, 1).unfold(2, columns, 1).flip(1, 2)  # (heads, places of queries, places of keys)
        between = windows.reshape(self.num_heads, rows * columns, rows * columns)
        return functional.pad(between, (self.prefix, 0, self.prefix, 0))

    def inside(self) -> Tensor:
        """(heads, T): 0 for patches of which a head's neighbour lies beyond the grid, else 1."""
        rows, columns = self.grid
        places = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
        found = torch.ones(self.num_heads, rows, columns)
        for head, (down, right) in enumerate(self.taps):
            row, column = places[0] + down, places[1] + right
            found[head] = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        return functional.pad(found.flatten(1), (self.prefix, 0), value=1.0)


def tap_offsets(kernel: int) -> list[tuple[int, int]]:
    """The neighbours of a patch, (down, right), that a convolution of this kernel reads, row by row. Raises BadParameter of an even one."""
    if kernel % 2 == 0:
        raise BadParameter(f"kernel is {kernel}; a convolution of patches around each one has an odd kernel: 1, 3, 5.")
    half = kernel // 2
    return [(down, right) for down in range(-half, half + 1) for right in range(-half, half + 1)]


def start_as_convolution(module: nn.Module, kernel: int, sharpness: float) -> nn.Module:
    """Makes the attention of the first block of timm's plain vision transformer begin as a convolution, in place; returns the module.

    kernel: odd, in patches; 0 leaves all as it is. Raises HostRefused for attention of another type than timm's, or of fewer than kernel²
    heads, and BadParameter for an even kernel.
    """
    if not kernel:
        return module
    taps, vit = len(tap_offsets(kernel)), unwalked(module, "convolutional_start")
    first = vit.blocks[0]
    if not hasattr(first, "attn") or type(first.attn).__name__ != "Attention":
        odd = getattr(first, "attn", first)
        raise HostRefused(f"its first block has {with_article(type(odd).__name__)}, and only timm's own attention begins as a convolution.")
    if first.attn.num_heads < taps:
        raise HostRefused(
            f"its first block has {first.attn.num_heads} heads, and a {kernel}x{kernel} convolution takes one for each of its {taps} taps."
        )
    grid = tuple(vit.patch_embed.grid_size)
    first.attn = ConvolutionalAttention(first.attn, kernel, sharpness, grid, vit.num_prefix_tokens).to(first.attn.qkv.weight)
    return module
