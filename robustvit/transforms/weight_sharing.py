"""Weight sharing: consecutive blocks have the same matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import nn

from robustvit.errors import HostRefused, few
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.hosts import plain_vit, refusing
from robustvit.primitives.surgery.linear import linear_of
from robustvit.primitives.surgery.masks import MaskedWeight, mask_weight, masked_class
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform

_SHARED = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


@transform(
    family="weight-sharing", source="Zhang et al. 2022 (MiniViT)", url="https://arxiv.org/abs/2204.07154", no_op="repeat=1", hosts="plain",
    rules="Weight multiplexing without its transformations of heads before and after the softmax, its relative positions and its "
    "distillation: a start for training, and much worse than the host before it. MACs stay; parameters and bytes fall.",
)  # fmt: skip
def weight_sharing(model: Classifier, *, repeat: Annotated[int, Ge(1)] = 2, start: Literal["mean", "first"] = "mean") -> Classifier:
    """Weight sharing between blocks: of every `repeat` consecutive blocks all have one qkv, one proj and one MLP.

    Norms and LayerScale remain each block's own; the last group is smaller where the depth is no multiple. start: what the shared weights
    and biases are, the mean over the group or those of its first block. Shared layers are one module, so that its parameters count once and
    are trained together. Raises HostRefused where blocks differ in shape, or a layer of them is no linear layer. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        blocks = list(plain_vit(module).blocks)
        for begin in range(0, len(blocks), repeat):
            _share(blocks[begin : begin + repeat], start)
        return module

    with refusing("weight_sharing", model):
        return changed(model, change)


def _share(group: list[nn.Module], start: str) -> None:
    """Gives the blocks of a group the same four layers; a group of one stays as it is."""
    for place in _SHARED if len(group) > 1 else ():
        parent, _, name = place.rpartition(".")
        layers: list[Any] = [block.get_submodule(place) for block in group]
        shapes = sorted({str(tuple(layer.weight.shape)) for layer in layers})
        if len(shapes) > 1:
            raise HostRefused(f"the layers {place} of consecutive blocks have weights of several shapes, {few(shapes)}.")
        shared = layers[0] if start == "first" else mean_layer(layers)
        for block in group:
            setattr(block.get_submodule(parent), name, shared)


def mean_layer(layers: Sequence[Any]) -> nn.Linear:
    """The linear layer of the mean weight and the mean bias; of masked layers, it keeps what any of them keeps.

    Raises HostRefused for layers of other kinds, such as quantised ones, of which a mean is none.
    """
    odd = next((type(layer).__name__ for layer in layers if type(layer) not in (nn.Linear, masked_class(nn.Linear))), None)
    if odd is not None:
        raise HostRefused(f"there is no mean of layers that are a {odd}; share weights before that transform, or choose start=first.")
    biases = [layer.bias for layer in layers if layer.bias is not None]
    bias = torch.stack(biases).mean(dim=0) if biases else None
    made = linear_of(torch.stack([layer.weight for layer in layers]).mean(dim=0), bias)
    masks = [layer.weight_mask for layer in layers if isinstance(layer, MaskedWeight)]
    if len(masks) == len(layers):
        mask_weight(made, torch.stack(masks).any(dim=0))
    return made
