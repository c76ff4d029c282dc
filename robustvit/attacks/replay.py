"""Replays the adversarial images that an earlier attack kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.adversarial_images import AdversarialImages
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.primitives.pixels import to_uint8
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec


@attack(severity="of.attack.eps", family="surrogate", source="robustvit", licence="Apache-2.0", passes="no_passes")
def replay(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, of: AdversarialImages) -> Crafted:
    """Evaluates a model on the images that an attack on this or another model kept, bit for bit.

    of: `STORE#CELL`, a cell that was run with --keep adversarial; `--suite kept:STORE` replays all of them. The images are checked against
    the budget of the attack that made them. Costs one query. Raises ModelError where the model's clean pixels differ from those of the
    attacked model, DataMissing where a sample has no image.
    """
    kept = of.images(draws.ids)
    if kept.clean.shape[1:3] != tuple(images.shape[2:]) or not np.array_equal(kept.clean, to_uint8(images)):
        raise ModelError(
            f"model '{model.card.label}' sees other clean pixels than the model that was attacked: {_size(kept.clean)} then, "
            f"{_size(to_uint8(images))} now, or another crop. Their views must agree, or the images are no perturbations of its input."
        )
    search = Search(model, images, labels, draws)
    rows, adversarial = search.active, torch.from_numpy(kept.adversarial).to(images)
    search.query(rows, adversarial)
    search.keep_best(rows, adversarial)
    return search.outcome()


def _size(images: np.ndarray) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"


def no_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """None: the images are there."""
    return Passes()
