"""Magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.layer_roles import chosen_layers
from robustvit.primitives.surgery.masks import mask_weight, smallest
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="pruning", source="Han et al. 2015; global over all layers as in Prasetyo et al. 2023 (Sparse then Prune)",
    url="https://arxiv.org/abs/1506.02626", no_op="amount=0",
    rules="Pruned once and not fine-tuned, where both papers train afterwards. `include=[embedding, norm, head]` prunes all that Sparse "
    "then Prune does; its regulariser of attention is a matter of training. Zeros are scattered: bytes fall, MACs stay.",
)  # fmt: skip
def magnitude(
    model: Classifier,
    *,
    amount: Annotated[float, Ge(0), Lt(1)] = 0.5,
    scope: Literal["global", "layer"] = "global",
    layers: Sequence[str] = (),
    include: Sequence[Literal["embedding", "norm", "head"]] = (),
) -> Classifier:
    """Unstructured magnitude pruning: the share `amount` of weights that are smallest in absolute value becomes zero.

    amount: share of the weights, rounded to a whole number of them; ties are broken by index, so that the number of zeros is exact. scope:
    one ranking of the weights of all layers, or one for each layer. layers: names of linear layers and convolutions, or ends of names, such
    as `qkv` or `blocks.0.*`; default all of them but the patch embedding and the head. include: what the default leaves out, and the
    weights of norms. Biases and the projection inside torch's own MultiheadAttention stay. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        chosen = [one.layer for one in chosen_layers(model, module, layers, include, kinds=(nn.Linear, nn.Conv2d))]
        scores = [layer.weight.detach().abs() for layer in chosen]  # type: ignore[operator]
        pruned = [smallest(one, round(amount * one.numel())) for one in scores] if scope == "layer" else _smallest_of_all(scores, amount)
        for layer, zero in zip(chosen, pruned, strict=True):
            mask_weight(layer, ~zero)
        return module

    return changed(model, change)


def _smallest_of_all(scores: list[Tensor], amount: float) -> list[Tensor]:
    """Where the smallest scores of all tensors together are, the given share of them."""
    flat = torch.cat([one.flatten() for one in scores])
    parts = torch.split(smallest(flat, round(amount * len(flat))), [one.numel() for one in scores])
    return [part.view_as(one) for part, one in zip(parts, scores, strict=True)]
