"""Regions of several patches embedded as one token each by the patch embedding that a vision transformer has."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from robustvit.primitives.surgery.token_costs import Costs


def embedded_regions(vit: Any, images: Tensor, side: int) -> Tensor:
    """(N, regions, D): regions of side x side patches in raster order, resized by area to one patch, embedded, at their mean position.

    images: (N, 3, H, W), normalised; the grid of patches must divide by `side`.
    """
    embedding = vit.patch_embed
    shrunk = embedding.proj(functional.avg_pool2d(images, side))
    values = embedding.norm(shrunk.flatten(2).transpose(1, 2))
    rows, columns = shrunk.shape[2:]
    grid = (side * rows, side * columns) if vit.dynamic_img_size else (side * rows * side * columns,)
    positions = vit._pos_embed(values.new_zeros(1, *grid, values.shape[2]))[:, vit.num_prefix_tokens :]
    middles = positions.view(1, rows, side, columns, side, -1).mean(dim=(2, 4)).flatten(1, 2)
    embedded: Tensor = vit.norm_pre(values + middles)
    return embedded


def with_embedding(costs: Costs, vit: Any, regions: int) -> Costs:
    """Costs with the operations of so many further tokens in the patch embedding."""
    return costs.plus(int(vit.patch_embed.proj.weight.numel()) * regions)
