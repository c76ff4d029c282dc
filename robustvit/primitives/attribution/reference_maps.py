"""Maps that know nothing of model or class, beside which attributions are reported: chance, and nearness to the centre."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_grid import TokenGrid


def random_map(grid: TokenGrid, draws: Draws) -> Tensor:
    """(N, rows, columns) uniform in [0, 1), from the draws of each sample."""
    return draws.at("attribution").uniform(grid.rows, grid.columns)


def centre_map(grid: TokenGrid, count: int) -> Tensor:
    """(count, rows, columns): 1 less the distance from the image's centre over that of its corner patches, which have 0.

    Distances are those between the middles of patches, in patches. Of a single patch 1.
    """
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in (grid.rows, grid.columns))
    distance = (rows[:, None].square() + columns[None].square()).sqrt()
    farthest = float(distance.max())
    return (1 - distance / (farthest or 1.0)).float().expand(count, -1, -1)
