"""Attributions by gradients with respect to pixels, and to tokens: input times gradient, and Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.attribution.recorded import (
    gradient_of,
    grid_of,
    leaf_of,
    over_patches,
    own_scores,
    recorded_outputs,
    recording_graph,
)
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.block_features import blocks_of
from robustvit.primitives.inference.keyed import bound_rows

_FIRST_NORM = {
    ("timm.models.vision_transformer", "Block"): "norm1",
    ("timm.models.beit", "Block"): "norm1",
    ("timm.models.eva", "EvaBlock"): "norm1",
    ("timm.models.deit", "Block"): "norm1",
    ("transformers.models.vit.modeling_vit", "ViTLayer"): "layernorm_before",
    ("transformers.models.deit.modeling_deit", "DeiTLayer"): "layernorm_before",
    ("transformers.models.dinov2.modeling_dinov2", "Dinov2Layer"): "norm1",
    ("torchvision.models.vision_transformer", "EncoderBlock"): "ln_1",
}
"""What the norm before the attention is called in blocks that begin with it."""


def input_times_gradient(model: Classifier, images: Tensor, classes: Tensor, differentiable: bool = False) -> Tensor:
    """Input times gradient (Shrikumar et al. 2016), (N, rows, columns): |x · ∂s/∂x|, summed over the channels and pixels of each patch.

    x: the normalised input, 0 at the model's mean colour, so that of a model linear in its pixels it is what removal to the mean takes
    away. s: the logit of the class. Raises HostRefused for a model without one sequence of blocks, or without gradients.
    """

    def of_tile(part: Classifier, tile: Tensor, wanted: Tensor) -> Tensor:
        leaf, tokens = leaf_of(tile, differentiable), list[Tensor]()
        with recorded_outputs(blocks_of(part)[:1], tokens):
            logits = part(leaf)
        gradient = gradient_of(part, own_scores(logits, wanted), leaf, differentiable)
        centred = leaf - model.mean.to(leaf)  # type: ignore[operator]
        return over_patches((gradient * centred).abs().sum(dim=1), grid_of(part, tokens))

    return _by_tile(of_tile, model, images, classes, differentiable)


def gradcam(model: Classifier, images: Tensor, classes: Tensor, differentiable: bool = False) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017), (N, rows, columns), of the patch tokens after the first norm of the last block.

    Later ones have no gradient where the head reads the class token. The gradient of the class's logit is averaged over the patches, which
    gives a weight for each channel; a patch has the weighted sum of its channels, negative values set to 0, which may be all of them.
    Raises HostRefused for a model without one sequence of blocks, whose last begins with a norm, or without gradients.
    """

    def of_tile(part: Classifier, tile: Tensor, wanted: Tensor) -> Tensor:
        tokens = list[Tensor]()
        with recorded_outputs([_first_norm(part)], tokens):
            logits = part(leaf_of(tile, differentiable))
        grid = grid_of(part, tokens)
        gradient = gradient_of(part, own_scores(logits, wanted), tokens[0], differentiable)[: len(tile), grid.prefix :]
        weighted = tokens[0][: len(tile), grid.prefix :] * gradient.mean(dim=1, keepdim=True)
        return weighted.sum(dim=2).relu().reshape(-1, grid.rows, grid.columns)

    return _by_tile(of_tile, model, images, classes, differentiable)


def _by_tile(
    of_tile: Callable[[Classifier, Tensor, Tensor], Tensor], model: Classifier, images: Tensor, classes: Tensor, differentiable: bool
) -> Tensor:  # fmt: skip
    rows = torch.split(torch.arange(len(images), device=images.device), model.tile)
    with recording_graph(differentiable):
        return torch.cat([of_tile(bound_rows(model, some), images[some], classes[some]) for some in rows])


def _first_norm(model: Classifier) -> nn.Module:
    last = blocks_of(model)[-1]
    name = _FIRST_NORM.get((type(last).__module__, type(last).__name__))
    if name is None:
        raise HostRefused(
            f"model '{model.card.label}' has a last block of the type {type(last).__name__}; gradcam reads the tokens after the norm that "
            "the last block of a plain vision transformer begins with, such as timm's, torchvision's or Hugging Face's ViT."
        )
    norm: nn.Module = getattr(last, name)
    return norm
