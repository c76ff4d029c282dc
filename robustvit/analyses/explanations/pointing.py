"""Whether attribution maps point to where the class is known to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.attribution.methods import Attribution, attribution, attribution_passes, patch_order, tiled_logits
from robustvit.primitives.attribution.recorded import patch_grid
from robustvit.primitives.attribution.truth_maps import covered_share, true_patches, truth_pixels
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="explanations", severity="corruption.severity",
    source="Zhang et al. 2016, Top-down Neural Attention by Excitation Backprop (the pointing game)", url="https://arxiv.org/abs/1608.00507",
    licence="a published definition; no code is used", reads_labels=True, passes="pointing_passes",
    rules="Of data whose truth is known by construction, such as digits_planted, and of a model that has learned them. Corruptions and "
    "attacks must leave pixels in their places.",
)  # fmt: skip
def pointing(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, truth: Data, attribution: Attribution = "legrad",
    corruption: Corruption | None = None, attack: Attack | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """How well the attribution map of the predicted class agrees with a truth map.

    truth: images by the same ids, white where the class is written, such as digits_planted with show=truth; they go through the model's
    view. A patch is true where half of it or more is, and where no patch is, those that are most. attribution: see
    robustvit.primitives.attribution.methods. corruption, attack: what shifts the images, one of them or neither; an attack is run whether
    or not the image is classified correctly. Columns: hit, 1 where the patch that counts most is true, of equal values the earlier; iou,
    intersection over union of the true patches and as many that count most; mass, the share of the map inside the truth map, patches
    covered in part in proportion, 0 of a map that is zero everywhere. Of clean images value_clean_NAME, of shifted ones
    value_shifted_NAME. Raises DataMissing for images without a truth map, HostRefused or ModelError for a model that the attribution does
    not take.
    """
    shifted = shifted_images("pointing", model, images, labels, draws, corruption, attack)
    share = covered_share(truth_pixels("pointing", model, truth, draws.ids).to(images.device), patch_grid(model))
    return both(lambda some: _agreement(_map(model, some, draws, attribution), share), images, shifted)


def pointing_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One prediction and one map of an image, twice as many where a corruption shifts it; None with an attack, whose own count."""
    if plugins.get("attack") is not None:
        return None
    own = attribution_passes(str(spec.get("attribution")))  # type: ignore[arg-type]
    sides = 1 if plugins.get("corruption") is None else 2
    return Passes(forward=sides * (1 + own.forward), gradients=sides * own.gradients)


def _map(model: Classifier, images: Tensor, draws: Draws, name: Attribution) -> Tensor:
    return attribution(name, model, images, tiled_logits(model, images).argmax(dim=1), draws)


def _agreement(maps: Tensor, share: Tensor) -> dict[str, Tensor]:
    """maps, share: (N, rows, columns)."""
    true, order = true_patches(share), patch_order(maps)
    counted = torch.arange(order.shape[1], device=order.device) < true.sum(dim=1, keepdim=True)
    top = torch.zeros_like(true).scatter_(1, order, counted)
    values = maps.flatten(1).double()
    inside, whole = (values * share.flatten(1)).sum(dim=1), values.sum(dim=1)
    return {
        "hit": true.gather(1, order[:, :1])[:, 0].float(), "iou": ((top & true).sum(dim=1) / (top | true).sum(dim=1)).float(),
        "mass": (inside / whole.where(whole > 0, 1.0)).float(),
    }  # fmt: skip
