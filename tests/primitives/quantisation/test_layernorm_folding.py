"""RepQ-ViT's reparametrisation: exact in float64, and the codes on the shared grid are those of each channel's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from robustvit.primitives.quantisation.layernorm_folding import fold_channels, shared_grid
from robustvit.primitives.quantisation.uniform_quantisation import Grid, Range, uniform_grid


def parts() -> tuple[nn.LayerNorm, list[nn.Linear]]:
    torch.manual_seed(0)
    norm, readers = nn.LayerNorm(12), [nn.Linear(12, 7), nn.Linear(12, 5, bias=False)]
    for parameter in (norm.weight, norm.bias):
        nn.init.normal_(parameter, mean=0.5)
    return norm.double(), [reader.double() for reader in readers]


def tokens() -> torch.Tensor:
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_channel(values: torch.Tensor, bits: int = 5) -> Grid:
    return uniform_grid(Range(values.amin(dim=0), values.amax(dim=0)), bits, symmetric=False)


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_without_quantisers_nothing_changes(centre) -> None:
    norm, readers = parts()
    before = [reader(norm(tokens())) for reader in readers]
    grid = by_channel(norm(tokens()))
    fold_channels(norm, readers, grid, shared_grid(grid, centre))
    assert readers[1].bias is not None
    assert all(torch.allclose(reader(norm(tokens())), was, atol=1e-10, rtol=0) for reader, was in zip(readers, before, strict=True))


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_codes_on_the_shared_grid_are_those_of_the_channels(centre) -> None:
    norm, readers = parts()
    values = norm(tokens())
    grid = by_channel(values)
    shared = shared_grid(grid, centre)
    own = (values / grid.scale).round() + grid.zero
    fold_channels(norm, readers, grid, shared)
    assert torch.equal((norm(tokens()) / shared.scale).round() + shared.zero, own)
    assert shared.scale.dim() == shared.zero.dim() == 0


def test_the_shared_grid_is_the_mean_or_the_median_channel() -> None:
    grid = Grid(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([3.0, 4.0, 12.0]), 0, 15)
    assert [float(one) for one in shared_grid(grid, "mean")[:2]] == [4.0, np.rint(19 / 3)]
    assert [float(one) for one in shared_grid(grid, "median")[:2]] == [2.0, 4.0]


def test_a_pruned_reader_keeps_its_zeros() -> None:
    norm, readers = parts()
    prune.l1_unstructured(readers[0], "weight", 0.5)
    before, zeros = readers[0](norm(tokens())), readers[0].weight_mask == 0
    grid = by_channel(norm(tokens()))
    fold_channels(norm, readers, grid, shared_grid(grid, "mean"))
    assert torch.allclose(readers[0](norm(tokens())), before, atol=1e-10, rtol=0)
    assert bool((readers[0].weight[zeros] == 0).all())
