"""The share of the variance of patch features that position alone explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.structure.position_artefacts import rolled
from robustvit.primitives.surgery.patch_features import mean_patch_features, patch_features, patch_transformer
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="features", source="definition; after the artefacts of Yang et al. 2024 (Denoising ViT)", url="https://arxiv.org/abs/2401.02957",
    fit="fit_mean", passes="energy_passes",
    rules="Give calibration other samples than those that are measured. What images have in common at a place counts as position, such as "
    "an object in the middle, which is no artefact; with roll=true no content has a place of its own. Differs from the share that the "
    "variance of the mean map has in the total: it is of each image alone and out of sample, so that what images differ in as wholes does "
    "not count.",
)  # fmt: skip
def artifact_energy(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, calibration: Data, samples: Count = 1000, roll: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """How much of the variance of final patch tokens over the positions of an image the mean map of other images explains.

    calibration: the data whose first `samples` give the mean map M (P, D). roll: whether each image, of either, is first rolled by a whole
    number of patches in both directions, drawn uniformly. With f the features of an image, f' = f less its mean over positions and M'
    likewise, columns: value_patch_variance, ‖f'‖²/P; value_position_residual, ‖f' − M'‖²/P; value_artifact_energy, 1 − residual/variance:
    at most 1, negative where M' is worse than nothing, and NaN where f is the same at all positions. Features are those after the last norm
    and before pooling. Raises HostRefused for another model than timm's plain vision transformer.
    """
    features = patch_features(model, _rolled(model, images, draws) if roll else images).double()
    varying, mean = (one - one.mean(dim=-2, keepdim=True) for one in (features, artifact["mean"].to(images.device).double()))
    variance, residual = (one.square().sum(dim=(1, 2)) / features.shape[1] for one in (varying, varying - mean))
    return {
        "value_patch_variance": variance.float(), "value_position_residual": residual.float(),
        "value_artifact_energy": (1 - residual / variance).where(variance > 0, torch.nan).float(),
    }  # fmt: skip


def fit_mean(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, samples: int, roll: bool
) -> dict[str, Tensor]:  # fmt: skip
    """mean, (P, D) float64: the mean map."""

    def load(data: Data, positions: np.ndarray) -> Batch:
        batch = load_batch(data, positions)
        moved = _rolled(model, batch.images, Draws(draws.seed, draws.stream, batch.ids, batch.images.device)) if roll else batch.images
        return replace(batch, images=moved)

    return {"mean": mean_patch_features(model, load, draws, calibration, samples)}


def energy_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One pass for each image, and one for each image of the mean map."""
    return Passes(forward=1, fit=min(product_of(spec, "samples"), len(plugins["calibration"])) / GRADIENT)


def _rolled(model: Classifier, images: Tensor, draws: Draws) -> Tensor:
    """(N, 3, H, W): each image rolled by patches of its own draws."""
    patch: tuple[int, int] = tuple(patch_transformer(model).patch_embed.patch_size)
    if model.view.shown is not None:
        raise HostRefused(f"artifact_energy: roll=true moves images by whole patches, and '{model.card.label}' resizes them before it.")
    sides = [length // side for length, side in zip(images.shape[2:], patch, strict=True)]
    shifts = torch.cat([draws.at(f"roll {axis}").integers(1, 1, low=0, high=side) for axis, side in enumerate(sides)], dim=2)
    return rolled(images, shifts, patch)[:, 0]
