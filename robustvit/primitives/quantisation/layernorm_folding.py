"""RepQ-ViT's reparametrisation: a quantiser by channel after a LayerNorm becomes one for the whole tensor, without any change of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.primitives.quantisation.uniform_quantisation import Grid

Centre: TypeAlias = Literal["mean", "median"]


def shared_grid(grid: Grid, centre: Centre) -> Grid:
    """One grid for all channels: the mean of their scales and the rounded mean of their zero-points, or their medians.

    grid: scale and zero (C,). The median of an even number of channels is the lower of the two in the middle.
    """
    middle = torch.mean if centre == "mean" else torch.median
    return Grid(middle(grid.scale), middle(grid.zero).round(), grid.lowest, grid.highest)


def fold_channels(norm: nn.LayerNorm, readers: Sequence[nn.Module], grid: Grid, shared: Grid) -> None:
    """Changes a LayerNorm and the linear layers that read it, in place of their tensors, so that the shared grid quantises as `grid` does.

    norm: with weight and bias. readers: all that read its output. With r = s_c / s the norm gives x / r + s (z_c − z), whose codes on the
    shared grid are those of x on the channels' grids, and the readers take that back: W ∘ r, and a bias less W (s_c (z_c − z)). Without
    quantisers logits stay as they are, but for rounding.
    """
    ratio, offset = grid.scale / shared.scale, shared.scale * (grid.zero - shared.zero)
    norm.weight = nn.Parameter(norm.weight.detach() / ratio, requires_grad=False)
    norm.bias = nn.Parameter(norm.bias.detach() / ratio + offset, requires_grad=False)
    for reader in readers:
        _take_back(reader, ratio, offset)


def _take_back(reader: Any, ratio: Tensor, offset: Tensor) -> None:
    name = "weight_orig" if "weight_orig" in reader._parameters else "weight"  # of a pruned layer
    scaled = nn.Parameter(reader._parameters[name].detach() * ratio, requires_grad=False)
    reader._parameters[name] = scaled
    mask = reader._buffers.get("weight_mask")
    shift = (scaled if mask is None else scaled * mask) @ offset
    reader.bias = nn.Parameter((0.0 if reader.bias is None else reader.bias.detach()) - shift, requires_grad=False)
