"""How alike the features of every block are: of clean and of shifted images, or of two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.kernel_alignment import gram, unbiased_hsic
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="insides", severity="corruption.severity", headless=True, group="group",
    source="Kornblith et al. 2019, Similarity of Neural Network Representations Revisited; groups: Nguyen et al. 2021, Do Wide and Deep "
    "Networks Learn the Same Things?", url="https://arxiv.org/abs/2010.15327", licence="a published idea; no code is used",
    passes="cka_passes",
    rules="HSIC is averaged over groups before the ratio is taken, so that the size of groups does not bias it. Features of a larger model "
    "are in memory for a whole group at once.",
)  # fmt: skip
def cka(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    other: Classifier | None = None, group: Literal[16, 32, 64, 128, 256] = 64, pooled: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Unbiased HSIC of the features after every block, within groups of samples, of which centred kernel alignment is the ratio.

    X are the features of clean images in each of the model's L blocks; Y those of the shifted images, or of the clean images in each of the
    L′ blocks of another model. corruption, attack, other: what Y is of, one of them; an attack is run whether or not the image is
    classified correctly. group: how many samples are compared with each other, the next in evaluation order. pooled: features are the mean
    of the patch tokens, and not all tokens. Columns are shared by a group: value_hsic_xy, a list of L·L′ (the block of Y changes fastest),
    value_hsic_xx of L and value_hsic_yy of L′. The metric cka makes of them mean(xy) / √(mean(xx) mean(yy)). Raises HostRefused for a model
    whose blocks are not those of a plain transformer.
    """
    if sum(one is not None for one in (corruption, attack, other)) != 1:
        raise BadParameter("cka compares the features of clean images with others: give corruption, attack or other, one of the three.")
    shifted = shifted_images("cka", model, images, labels, draws, corruption, attack)
    first = _grams(model, images, group, pooled)
    if shifted is not None:
        second = _grams(model, shifted, group, pooled)
    else:
        assert other is not None
        second = _grams(keyed_by(other, draws), images, group, pooled)
    return {
        "value_hsic_xy": unbiased_hsic(first[:, :, None], second[:, None]).flatten(1).float(),
        "value_hsic_xx": unbiased_hsic(first, first).float(), "value_hsic_yy": unbiased_hsic(second, second).float(),
    }  # fmt: skip


def cka_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """Two an image: of clean images, and of what they are compared with."""
    return Passes(forward=2.0) if plugins.get("other") is not None else shifted_passes(1.0, plugins)


@torch.no_grad()
def _grams(model: Classifier, images: Tensor, group: int, pooled: bool) -> Tensor:
    """(groups, L, n, n) of the features after every block."""
    tiles: list[list[Tensor]] = []
    for found in unit_tokens(model, images):
        tiles.append([one[:, found.grid.prefix :].mean(dim=1) if pooled else one.flatten(1) for one in found.mlp])
    features = (torch.cat(block) for block in zip(*tiles, strict=True))
    return torch.stack([gram(one.reshape(-1, group, one.shape[1])) for one in features], dim=1)
