"""How much attention goes to patches at each distance, head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import attention_in_graph, refusing_hosts
from robustvit.primitives.inference.token_grid import TokenGrid, token_grid
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="insides", severity="corruption.severity", headless=True,
    source="Li et al. 2023, How Does Attention Work in Vision Transformers? A Visual Analytics Attempt", url="https://arxiv.org/abs/2303.13731",
    licence="no code is used", passes="reach_passes",
    rules="Distances are steps of a king: the larger of the steps down and across. Prefix tokens are left out of maps and the rest of each "
    "row is divided by its sum.",
)  # fmt: skip
def attention_reach(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """The attention strength to k-hop neighbours: the share of a patch's attention that patches k steps away have, of every head.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    Columns: value_clean_reach, a list of L·H·g, block by block, head by head, for k from 0 to g − 1, g being the longer side of the grid of
    patches; averaged over the patches; value_clean_near, a list with an entry for each block: the share at most one step away, averaged
    over heads. Of shifted images value_shifted_NAME. Raises HostRefused for models that do not attend between all tokens of an image, or
    compute attention by hand.
    """
    shifted = shifted_images("attention_reach", model, images, labels, draws, corruption, attack)
    with refusing_hosts():
        return both(lambda some: _reach(model, some), images, shifted)


def reach_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """Three an image: one, and twice as much for the maps."""
    return shifted_passes(3.0, plugins)


@torch.no_grad()
def _reach(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    tiles = []
    for found in attention_in_graph(model, images):
        grid = token_grid(model, found.maps[0].shape[-1])
        tiles.append(torch.stack([by_distance(one, grid) for one in found.maps], dim=1))
    shares = torch.cat(tiles)  # (n, L, heads, g)
    return {"reach": shares.flatten(1).float(), "near": shares[..., :2].sum(dim=3).mean(dim=2).float()}


def by_distance(maps: Tensor, grid: TokenGrid) -> Tensor:
    """(n, heads, g): the share of attention at each distance, of (n, heads, T, T) maps whose rows are queries."""
    own = maps[:, :, grid.prefix :, grid.prefix :].double()
    own = own / own.sum(dim=-1, keepdim=True)
    places = torch.cartesian_prod(torch.arange(grid.rows), torch.arange(grid.columns)).to(maps.device)
    steps = (places[None] - places[:, None]).abs().amax(dim=-1)  # (P, P)
    shares = [(own * (steps == distance)).sum(dim=-1).nanmean(dim=-1) for distance in range(max(grid.rows, grid.columns))]
    return torch.stack(shares, dim=-1)
