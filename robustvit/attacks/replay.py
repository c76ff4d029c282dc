"""Images that an earlier attack left, judged again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.adversarial_images import AdversarialImages
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import to_uint8
from robustvit.spec.registry import attack


@attack(severity="of.attack.eps", family="surrogate", source="robustvit", licence="Apache-2.0")
def replay(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, of: AdversarialImages) -> Crafted:
    """Shows a model the images that an attack left, of this model or another, exactly as it left them.

    of: `STORE#CELL`, a cell that was run with --keep adversarial; `--suite kept:STORE` asks all of them. The images are held to the budget of the attack
    that made them. Costs one query. Raises ModelError where the model looks at other pixels than the attacked one did, DataMissing where a
    sample has no image.
    """
    found = of.images(draws.ids)
    if found.clean.shape[1:3] != tuple(images.shape[2:]) or not np.array_equal(found.clean, to_uint8(images)):
        raise ModelError(
            f"model '{model.card.label}' looks at other pixels than the model that was attacked: {_size(found.clean)} then, "
            f"{_size(to_uint8(images))} now, or another crop. Their views must agree, or the images are no perturbations of what it sees."
        )
    search = Search(model, images, labels, draws)
    rows, adversarial = search.standing, torch.from_numpy(found.adversarial).to(images)
    search.look(rows, adversarial)
    search.leave(rows, adversarial)
    return search.outcome()


def _size(pictures: np.ndarray) -> str:
    return f"{pictures.shape[1]}x{pictures.shape[2]}"
