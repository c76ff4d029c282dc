"""Linear layers of given tensors, and layers whose sizes follow the state dict that is loaded into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_NAMES = ("weight", "weight_orig")  # of a linear layer's matrix, the latter where it is masked


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


def stored_size(state_dict: Mapping[str, Any], place: str) -> tuple[int, int] | None:
    """(out, in) of the linear layer that a state dict holds at a place (`blocks.0.attn.qkv.`); None where it holds none."""
    for tensor in (state_dict.get(f"{place}{name}") for name in _NAMES):
        if isinstance(tensor, Tensor) and tensor.ndim == 2:
            return tensor.shape[0], tensor.shape[1]
    return None


def resize(layer: nn.Linear, out: int, into: int) -> None:
    """Gives a linear layer, masked or not, so many outputs and inputs in place; numbers of what is new are undefined until they are loaded.

    For transforms that keep as much of a layer as its weights call for: then a state dict has sizes that their parameters do not tell.
    """
    held: list[dict[str, Any]] = [layer._parameters, layer._buffers]
    for owned in held:
        for name, tensor in owned.items():
            if tensor is None or not (tensor.ndim == 2 or name == "bias"):
                continue
            shape = (out, into)[: tensor.ndim]
            if tensor.shape != shape:
                made = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
                owned[name] = nn.Parameter(made, requires_grad=tensor.requires_grad) if owned is layer._parameters else made
    layer.out_features, layer.in_features = out, into
