"""How much of a block's output comes past it: the skip connection beside what attention and MLP add."""

from __future__ import annotations

import itertools
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
    family="insides", severity="corruption.severity", headless=True,
    source="Raghu et al. 2021, Do Vision Transformers See Like Convolutional Neural Networks?", url="https://arxiv.org/abs/2108.08810",
    licence="a published idea; no code is used", passes="skip_passes",
)  # fmt: skip
def skip_strength(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """The norm of what comes past attention and MLP by the skip connection, over the norm of what these add.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    With x a token before and f(x) what is added to it, lists of ‖x‖ / ‖f(x)‖ with 2·L entries, attention and MLP of each block in turn:
    skip_patches, averaged over the patch tokens, and, of a model with a class token, skip_class, of that. Of clean images value_clean_NAME,
    of shifted ones value_shifted_NAME. Raises HostRefused for a model whose blocks are not those of a plain transformer.
    """
    shifted = shifted_images("skip_strength", model, images, labels, draws, corruption, attack)
    return both(lambda some: _ratios(model, some), images, shifted)


def skip_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and some more for the norms."""
    return shifted_passes(1.6, plugins)


@torch.no_grad()
def _ratios(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    patches, classes = list[Tensor](), list[Tensor]()
    for found in unit_tokens(model, images):
        joints = [one.double() for one in found.units]
        pairs = itertools.pairwise(joints)
        ratios = torch.stack([before.norm(dim=2) / (after - before).norm(dim=2) for before, after in pairs], dim=1)
        patches.append(ratios[:, :, found.grid.prefix :].mean(dim=2))
        if found.grid.class_token:
            classes.append(ratios[:, :, 0])
    return {"skip_patches": torch.cat(patches).float()} | ({"skip_class": torch.cat(classes).float()} if classes else {})
