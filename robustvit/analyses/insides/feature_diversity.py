"""How much the patch tokens of an image differ from each other, after every attention and MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="insides", severity="corruption.severity", headless=True, source="Tang et al. 2021, Augmented Shortcuts for Vision Transformers",
    url="https://arxiv.org/abs/2106.15941", licence="a published formula; no code is used", passes="diversity_passes",
    rules="Of the patch tokens alone: prefix tokens (class, registers, distillation) differ from them in any model.",
)  # fmt: skip
def feature_diversity(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """The part of the patch tokens that is not the same for all of them, before the first block, after each attention and after each MLP.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    With Z (P, D) the patch tokens of the residual stream and z their mean, a list with 1 + 2·L entries: diversity, ‖Z − 1zᵀ‖ / ‖Z‖ in
    Frobenius norms: 0 where all tokens are the same, 1 where their mean is zero; 1zᵀ is the matrix of equal rows that is nearest to Z. Of
    clean images value_clean_diversity, of shifted ones value_shifted_diversity. Raises HostRefused for a model whose blocks are not those
    of a plain transformer.
    """
    shifted = shifted_images("feature_diversity", model, images, labels, draws, corruption, attack)
    return both(lambda some: _diversity(model, some), images, shifted)


def diversity_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and some more for the norms."""
    return shifted_passes(1.6, plugins)


@torch.no_grad()
def _diversity(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    tiles = []
    for found in unit_tokens(model, images):
        patches = [one[:, found.grid.prefix :].double() for one in found.units]
        tiles.append(torch.stack([_norm(one - one.mean(dim=1, keepdim=True)) / _norm(one) for one in patches], dim=1))
    return {"diversity": torch.cat(tiles).float()}


def _norm(tokens: Tensor) -> Tensor:
    return tokens.square().sum(dim=(1, 2)).sqrt()
