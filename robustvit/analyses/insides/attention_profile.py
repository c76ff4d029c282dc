"""Where the heads of every block attend: how far, how sharply, and whether all queries attend alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_maps import attention_in_graph, refusing_hosts
from robustvit.primitives.inference.attention_statistics import map_statistics
from robustvit.primitives.inference.token_grid import token_grid
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="insides", severity="corruption.severity", headless=True,
    source="distance, deviation: Walmer et al. 2023, Teaching Matters; mutual information: Park et al. 2023, What Do Self-Supervised "
    "Vision Transformers Learn?", url="https://arxiv.org/abs/2212.03862", licence="MIT (vit_analysis); no code is used",
    passes="profile_passes",
    rules="Distances are in pixels of the model's input: compare models of one input size. Prefix tokens (class, registers, distillation) "
    "are left out of maps and the rest of each row is divided by its sum; what they had is prefix_attention.",
)  # fmt: skip
def attention_profile(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """Statistics of the attention maps of every block, averaged over its heads, of clean images and of shifted ones.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    With A_ij the attention from patch i to patch j, rows of sum 1, P patches at p_i, lists of columns with an entry for each block:
    distance, mean over i of Σ_j A_ij |p_i − p_j| in pixels; entropy, mean over i of −Σ_j A_ij ln A_ij in nats, at most ln P; nmi, mutual
    information of queries and keys over the geometric mean of their entropies, 0 where all queries attend alike and 1 where each attends to
    a patch of its own; deviation, the standard deviation of A_ij over i, averaged over j; offset, the length of the mean over i of Σ_j A_ij
    (p_j − p_i) in patches; offset_heads, the share of heads with more than half of their attention, averaged over the patches that have
    such a neighbour, on one and the same of the eight neighbours; prefix, the attention of patches to prefix tokens. Queries that attend to
    prefix tokens alone are left out. Of clean images value_clean_NAME, of shifted ones value_shifted_NAME. Raises HostRefused for models
    that do not attend between all tokens of an image, or compute attention by hand.
    """
    shifted = shifted_images("attention_profile", model, images, labels, draws, corruption, attack)
    with refusing_hosts():
        return both(lambda some: _statistics(model, some), images, shifted)


def profile_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """Three an image: one, and twice as much for the maps and their statistics."""
    return shifted_passes(3.0, plugins)


@torch.no_grad()
def _statistics(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    tiles = []
    for found in attention_in_graph(model, images):
        grid = token_grid(model, found.maps[0].shape[-1])
        pixels = (model.size[0] / grid.rows, model.size[1] / grid.columns)
        tiles.append([map_statistics(one, grid, pixels)._asdict() for one in found.maps])
    return {name: torch.cat([torch.stack([block[name] for block in blocks], dim=1) for blocks in tiles]).float() for name in tiles[0][0]}
