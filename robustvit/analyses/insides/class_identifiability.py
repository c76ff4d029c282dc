"""From which block on the class of an image can be read from its tokens, and which updates write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_scores import readout, token_scores
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="insides", severity="corruption.severity",
    source="Vilas et al. 2023, Analyzing Vision Transformers for Image Classification in Class Embedding Space",
    url="https://arxiv.org/abs/2310.18969", licence="none; no code is used", reads_labels=True, passes="identifiability_passes",
    rules="The head was trained on the last block's tokens: what it does not read earlier may be written in another basis. A class that "
    "ties with others is ranked before them.",
)  # fmt: skip
def class_identifiability(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """The rank of the true class where the last norm and the head are applied to the tokens of every block.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    Identifiability is 1 − r/C, r being how many of the C classes score higher than the true one: 1 where none does, 1/C where all others
    do, and (C + 1) / 2C by chance. Lists of columns with an entry for each block: identifiability, of the token that the head reads (the
    class token, or the mean of the patches) after the block; identifiability_patches, averaged over the patch tokens; written_attention and
    written_mlp, of what the block's attention and its MLP add to the token that the head reads, by itself. Of clean images
    value_clean_NAME, of shifted ones value_shifted_NAME. Raises HostRefused for another model than timm's plain vision transformer with a
    head on one token or the mean.
    """
    shifted = shifted_images("class_identifiability", model, images, labels, draws, corruption, attack)
    return both(lambda some: _ranks(model, some, labels), images, shifted)


def identifiability_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and some more for the head on every token."""
    return shifted_passes(1.7, plugins)


def identifiability(scores: Tensor, labels: Tensor) -> Tensor:
    """(…,): 1 − r/C of (…, C) scores, r counting the classes that score higher than the label."""
    own = scores.gather(-1, labels[..., None])
    return 1 - (scores > own).sum(dim=-1).double() / scores.shape[-1]


@torch.no_grad()
def _ranks(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    tiles: dict[str, list[Tensor]] = {}
    for found, right in zip(unit_tokens(model, images), torch.split(labels, model.tile), strict=True):
        before, prefix = [found.embedded, *found.mlp[:-1]], found.grid.prefix
        patches = right[:, None].expand(-1, found.embedded.shape[1] - prefix)
        columns = {
            "identifiability": [identifiability(token_scores(model, readout(model, one)), right) for one in found.mlp],
            "identifiability_patches": [identifiability(token_scores(model, one[:, prefix:]), patches).mean(dim=1) for one in found.mlp],
            "written_attention": _written(model, before, found.attention, right),
            "written_mlp": _written(model, found.attention, found.mlp, right),
        }
        for name, blocks in columns.items():
            tiles.setdefault(name, []).append(torch.stack(blocks, dim=1))
    return {name: torch.cat(some).float() for name, some in tiles.items()}


def _written(model: Classifier, before: list[Tensor], after: list[Tensor], labels: Tensor) -> list[Tensor]:
    pairs = zip(before, after, strict=True)
    return [identifiability(token_scores(model, readout(model, late - early)), labels) for early, late in pairs]
