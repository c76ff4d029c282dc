"""Training of a denoiser of features on a frozen vision transformer."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.feature_denoiser import DenoisedNorm, denoise_features
from robustvit.primitives.structure.position_artefacts import added_sums, position_artefacts, rolled, without_artefacts
from robustvit.primitives.surgery.patch_features import module_outputs
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.crafting import untouched
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{yang2024denoising,
  title={Denoising Vision Transformers},
  author={Yang, Jiawei and Luo, Katie Z and Li, Jiefeng and Deng, Congyue and Guibas, Leonidas and Krishnan, Dilip and Weinberger, Kilian Q
    and Tian, Yonglong and Wang, Yue},
  booktitle={European Conference on Computer Vision},
  year={2024}
}"""
_NAME = "feature_denoiser"


@defense(
    family="structure", source="Yang et al. 2024 (Denoising ViT)", url="https://arxiv.org/abs/2401.02957", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Of trained models, whose weights stay to the bit (a file in float16 rounds them); no label is read. Logits read from the class "
    "token do not change. A reduced form of the paper: there, a neural field for each image, fitted offline to many crops and flips, "
    "separates features into semantics, artefacts and a residual; here views are shifted by whole patches, the parts add up without a "
    "residual, and least squares over all images so far gives the artefacts in closed form. What crosses an edge comes in at the other. "
    "Of several processes each has the artefacts of its own images, and a resumed run goes on from those of the first.",
)  # fmt: skip
def feature_denoiser(*, views: Annotated[int, Ge(2)] = 4, shift: Count | None = None) -> Defense:
    """Trains a denoiser of the final patch tokens (Denoising ViT, Yang et al. 2024); everything else is frozen.

    Each step sees every image as it is and in views − 1 shifts, each drawn in whole patches of −shift … shift down and to the right. shift:
    default a quarter of the smaller side of the grid, rounded up. Features of view k at position p are taken as F(u) + G(p), u being the
    place of the image there. G, which all images share and whose mean over positions is 0, is that of least squares over all images so
    far, and F the mean over views of f − G. The loss is the mean squared error from F of what the denoiser makes of each view, plus 1 −
    the mean cosine. The checkpoint names the transform `feature_denoiser`. Takes timm's plain vision transformers.
    """
    state: dict[str, Tensor] = {}

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        vit = transformer_in(model, _NAME)
        norm, patch = _denoised(vit), tuple(vit.patch_embed.patch_size)
        height, width = batch.shown.shape[2:]
        grid = (height // patch[0], width // patch[1])
        shifts = drawn_shifts(draws, views, shift or -(-min(grid) // 4)).to(batch.shown.device)
        features = _features(model, norm, rolled(batch.shown, shifts, patch).flatten(0, 1))
        features = features.view(len(batch), views, *features.shape[1:])
        state.update(added_sums(state, features, shifts, grid))
        target = without_artefacts(features, shifts, grid, position_artefacts(state))
        return distance(norm.denoiser(features.flatten(0, 1)), target.flatten(0, 1))

    return Defense(_NAME, prepare=_with_denoiser, loss=loss, state=state, surgery=named_surgery("feature_denoiser", blocks=1))


def drawn_shifts(draws: Draws, views: int, shift: int) -> Tensor:
    """(N, views, 2) int64 in −shift … shift; of the first view 0."""
    shifts = draws.at("shift").integers(views, 2, low=-shift, high=shift + 1)
    shifts[:, 0] = 0
    return shifts


def distance(denoised: Tensor, target: Tensor) -> Tensor:
    """(): the mean squared error plus 1 − the mean cosine of patch tokens (N, P, D)."""
    return functional.mse_loss(denoised, target) + 1 - functional.cosine_similarity(denoised, target, dim=-1).mean()


@torch.no_grad()
def _features(model: nn.Module, norm: DenoisedNorm, images: Tensor) -> Tensor:
    """(N, P, D): the patch tokens that the denoiser is given, of a host in evaluation mode."""
    with untouched(model, "eval", images.device), module_outputs(norm.norm) as found:
        model(images)
    features: Tensor = found[0]
    return features[:, norm.prefix :].to(norm.denoiser.positions.dtype)


def _with_denoiser(model: nn.Module) -> nn.Module:
    made: Any = denoise_features(plain_host(model, _NAME), 1)
    made.requires_grad_(False)
    made.norm.denoiser.requires_grad_(True)
    whole: nn.Module = made
    return whole


def _denoised(vit: Any) -> DenoisedNorm:
    if not isinstance(vit.norm, DenoisedNorm):
        raise HostRefused(f"'{_NAME}' trains the denoiser that its `prepare` adds, and this {type(vit).__name__} has none.")
    return vit.norm
