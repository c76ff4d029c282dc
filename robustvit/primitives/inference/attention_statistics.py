"""Statistics of attention maps between the patches of an image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustvit.primitives.inference.token_grid import TokenGrid

_NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))


class MapStatistics(NamedTuple):
    """(n,) each, averaged over heads; robustvit.analyses.insides.attention_profile defines them."""

    distance: Tensor
    entropy: Tensor
    nmi: Tensor
    deviation: Tensor
    offset: Tensor
    offset_heads: Tensor
    prefix: Tensor


def map_statistics(maps: Tensor, grid: TokenGrid, pixels: tuple[float, float]) -> MapStatistics:
    """Those of (n, heads, T, T) maps whose rows are queries and sum to 1. pixels: the height and width of a patch."""
    own = maps[:, :, grid.prefix :, grid.prefix :].double()
    sums = own.sum(dim=-1, keepdim=True)
    counts = (sums[..., 0] > 0).double()  # queries that attend to patches at all, (n, heads, P)
    own = own / sums.where(sums > 0, 1.0)
    places = torch.cartesian_prod(torch.arange(grid.rows), torch.arange(grid.columns)).to(maps.device, torch.float64)
    steps = places[None] - places[:, None]  # (P, P, 2): from i to j
    scale = torch.tensor(pixels, dtype=torch.float64, device=maps.device)
    distance = _mean((own * (steps * scale).norm(dim=-1)).sum(dim=-1), counts)
    entropy = -torch.special.xlogy(own, own).sum(dim=-1)
    offset = torch.stack([_mean((own * steps[..., axis]).sum(dim=-1), counts) for axis in (0, 1)], dim=-1).norm(dim=-1)
    found = (
        distance, _mean(entropy, counts), _mutual_information(own, entropy, counts), _deviation(own, counts), offset,
        (_largest_neighbour(own, grid, counts) > 0.5).double(), (1 - sums[..., 0]).clamp_min(0.0).mean(dim=-1),
    )  # fmt: skip
    return MapStatistics(*(one.mean(dim=1) for one in found))


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """(n, heads): the mean over queries, NaN where none counts."""
    return (values * counts).sum(dim=-1) / counts.sum(dim=-1)


def _mutual_information(own: Tensor, entropy: Tensor, counts: Tensor) -> Tensor:
    """(n, heads): of queries, each equally likely, and keys, over √(H(queries) H(keys)); 0 where one of them has no entropy."""
    share = counts / counts.sum(dim=-1, keepdim=True)
    keys = (own * share[..., None]).sum(dim=-2)
    of_keys, of_queries = (-torch.special.xlogy(one, one).sum(dim=-1) for one in (keys, share))
    shared = of_keys - (entropy * share).sum(dim=-1)
    both = (of_keys * of_queries).sqrt()
    return torch.where(both > 1e-12, shared / both.clamp_min(1e-12), both * 0.0)


def _deviation(own: Tensor, counts: Tensor) -> Tensor:
    """(n, heads): the standard deviation over queries, averaged over keys."""
    share = (counts / counts.sum(dim=-1, keepdim=True))[..., None]
    mean = (own * share).sum(dim=-2, keepdim=True)
    return ((own - mean).square() * share).sum(dim=-2).sqrt().mean(dim=-1)


def _largest_neighbour(own: Tensor, grid: TokenGrid, counts: Tensor) -> Tensor:
    """(n, heads): the largest mean attention to one of the eight neighbours, over the queries that have it."""
    maps = own.reshape(*own.shape[:2], *(grid.rows, grid.columns) * 2)
    counted = counts.reshape(*counts.shape[:2], grid.rows, grid.columns)
    found = []
    for down, right in _NEIGHBOURS:
        rows = torch.arange(max(0, -down), grid.rows - max(0, down), device=own.device)
        columns = torch.arange(max(0, -right), grid.columns - max(0, right), device=own.device)
        if len(rows) and len(columns):
            row, column = (one.flatten() for one in torch.meshgrid(rows, columns, indexing="ij"))
            found.append(_mean(maps[..., row, column, row + down, column + right], counted[..., row, column]).nan_to_num())
    return torch.stack(found).amax(dim=0) if found else own.new_zeros(own.shape[:2])
