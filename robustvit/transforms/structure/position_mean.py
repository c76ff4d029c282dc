"""The mean pattern of positions subtracted from the final patch tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.patch_features import mean_patch_features
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec


@transform(
    family="structure", source="definition; the control without training that Yang et al. 2024 (Denoising ViT) is compared with",
    url="https://arxiv.org/abs/2401.02957", hosts="patches", no_op="strength=0", fit="fit_positions", passes="fit_passes",
    rules="The mean over images is also of what images have in common at a place, such as an object in the middle: that goes, too. Logits "
    "read from the class token stay, and so do those of the mean of patch tokens, since what is subtracted is 0 on average over positions.",
)  # fmt: skip
def position_mean(
    model: Classifier, artifact: Mapping[str, Tensor], *, calibration: Data, samples: Count = 1000,
    strength: Annotated[float, Ge(0), Le(1)] = 1.0,
) -> Classifier:  # fmt: skip
    """Subtracts from the final patch tokens their mean over other images at each position, less its mean over positions.

    It stands after the model's last norm and before pooling. calibration: the data whose first `samples` are averaged. strength: the factor
    of what is subtracted; 0 changes nothing. Raises HostRefused for an artifact of another number of patches.
    """
    if strength == 0:
        return changed(model, unchanged)
    vit: Any = model.model
    height, width = vit.patch_embed.patch_size
    shown = computed_size(model)
    patches = (shown[0] // height) * (shown[1] // width)
    positions = calibrated(artifact, "positions", (patches, vit.embed_dim), model)
    if len(positions) != patches:
        raise HostRefused(
            f"'position_mean' does not take '{model.card.label}': it has learned of {len(positions)} patches, and images of "
            f"{shown[0]}x{shown[1]} pixels have {patches}; learn it at this size."
        )

    def subtracting(module: nn.Module) -> nn.Module:
        made: Any = module
        made.norm = PositionsSubtracted(made.norm, strength * positions, made.num_prefix_tokens)
        return module

    return changed(model, subtracting)


def fit_positions(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, samples: int, strength: float
) -> dict[str, Tensor]:  # fmt: skip
    """positions, (P, D) float32: the mean of the final patch tokens less its mean over positions; nothing at strength 0."""
    if strength == 0:
        return {}
    mean = mean_patch_features(model, load_batch, draws, calibration, samples)
    return {"positions": (mean - mean.mean(dim=0)).float()}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a forward pass for each image of the mean, once."""
    return Passes(fit=0.0 if spec.get("strength") == 0 else product_of(spec, "samples") / GRADIENT)


class PositionsSubtracted(nn.Module):
    """The last norm of a vision transformer, less a map (P, D) on its patch tokens; prefix tokens stay."""

    positions: Tensor
    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, norm: nn.Module, positions: Tensor, prefix: int) -> None:
        super().__init__()
        self.norm, self.prefix = norm, prefix
        self.register_buffer("positions", positions)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D). Raises ModelError for another number of patch tokens than the map has."""
        normed: Tensor = self.norm(tokens)
        patches = normed[:, self.prefix :]
        if patches.shape[1] != len(self.positions):
            raise ModelError(
                f"position_mean takes all {len(self.positions)} patch tokens of an image, not {patches.shape[1]}; nothing may drop or "
                "merge them before."
            )
        return torch.cat((normed[:, : self.prefix], patches - self.positions.to(patches.dtype)), dim=1)
