"""Linear layers of given tensors, and layers whose shapes follow the state dict that is loaded into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen linear layer in evaluation mode of these tensors: weight (out, in), bias (out,) or None.

    They are laid out row by row, as those of a loaded state dict are: another layout gives other bits.
    """
    with torch.device("meta"):  # so that no random number is drawn
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
    return made.eval()


def fit_shapes(layer: nn.Module, stored: Mapping[str, Any]) -> None:
    """Gives a linear layer, or what a transform made of one, tensors of the stored shapes, their numbers undefined until they are loaded.

    stored: the tensors of a state dict by their names within the layer. A transform that keeps as much of a layer as its weights call for
    leaves shapes that its parameters do not tell.
    """
    for owned in (layer._parameters, layer._buffers):
        for name, tensor in owned.items():
            wanted = stored.get(name)
            if wanted is None:
                owned[name] = None
            elif tensor is None or tensor.shape != wanted.shape:
                owned[name] = _empty_like(wanted, tensor, layer, as_parameter=owned is layer._parameters)
    rows = next((one.shape for one in stored.values() if one.ndim == 2), None)
    if rows is not None and isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = rows


def _empty_like(wanted: Tensor, former: Tensor | None, layer: nn.Module, *, as_parameter: bool) -> Any:
    """An empty tensor of the wanted shape, of the former's dtype and device, else of the layer's first tensor."""
    like = former if former is not None else next(iter(layer.state_dict().values()))
    made = torch.empty(wanted.shape, dtype=like.dtype, device=like.device)
    return nn.Parameter(made, requires_grad=like.requires_grad) if as_parameter else made
