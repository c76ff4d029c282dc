"""Which tokens a token reducer keeps, of clean images and of shifted ones."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, shifted_images
from robustvit.primitives.surgery.recorded.token_records import surviving_patches
from robustvit.spec.registry import analysis


@analysis(
    severity="corruption.severity", source="definition; selection overlap of token reducers, cf. Haurum et al. 2023",
    url="https://arxiv.org/abs/2308.04657", passes=(),
    rules="Compare at equal numbers of kept tokens: two random choices of k of n patches overlap by k / (2n − k) on average.",
)  # fmt: skip
def token_choice(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """Overlap of the tokens that a reducer keeps of a clean image and of a shifted one, as intersection over union.

    corruption, attack: what shifts the image, one of them; an attack is run whether or not the image is classified correctly. Columns:
    value_token_iou, from 0 (no patch is kept of both) to 1, also 1 where none is kept of either; value_kept_clean and value_kept_shifted,
    how many patches' places have tokens at the end. Raises HostRefused for a model that computes on all its tokens, BadParameter unless one
    of the two is given.
    """
    shifted = shifted_images("token_choice", model, images, labels, draws, corruption, attack)
    if shifted is None:
        raise BadParameter("token_choice compares clean images with shifted ones: give corruption or attack, one of the two.")
    clean, other = surviving_patches(model, images), surviving_patches(model, shifted)
    both, either = (clean & other).sum(dim=1), (clean | other).sum(dim=1)
    overlap = torch.where(either == 0, 1.0, both / either.clamp_min(1))
    return {"value_token_iou": overlap, "value_kept_clean": clean.sum(dim=1).float(), "value_kept_shifted": other.sum(dim=1).float()}
