"""Counts the multiply-accumulate operations (MACs) of one image through a model, without computing them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

_UNCOUNTABLE = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError)  # of tensors without numbers


class Cost(NamedTuple):
    """macs: of one image, None where they cannot be counted; then `reason` says why."""

    macs: int | None
    reason: str = ""


def count(model: nn.Module, size: tuple[int, int], channels: int = 3) -> Cost:
    """The MACs of one image of (height, width) `size` in evaluation mode: of convolutions, matrix products and attention.

    A copy of the model runs on shapes alone (the meta device), so that no number is computed and the model is untouched. Half of the
    operations that torch counts: a multiplication and its addition are one MAC. Normalisation, activations and sums are not counted, as
    papers have it. None where the model needs the numbers themselves, to choose what it does next, or where torch sees no product.
    """
    from torch.utils.flop_counter import FlopCounterMode  # late: it brings triton, which is slow to import

    try:
        shapes = of_shapes(model).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            shapes(torch.empty(1, channels, *size, device="meta"))
    except _UNCOUNTABLE as error:
        return Cost(None, f"not counted: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}")
    total = counter.get_total_flops() // 2
    return Cost(total) if total else Cost(None, "not counted: torch sees no convolution and no matrix product in it")


def of_shapes(model: nn.Module) -> nn.Module:
    """A copy of the model whose tensors have shapes and no numbers; nothing of the weights is copied."""
    memo = {id(tensor): _shape(tensor) for tensor in _tensors(model)}
    return copy.deepcopy(model, memo)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that modules keep beside them."""
    for module in model.modules():
        for values in (module._parameters, module._buffers, vars(module)):
            yield from (value for value in values.values() if isinstance(value, Tensor))


def _shape(tensor: Tensor) -> Tensor:
    bare = tensor.detach().to("meta")
    return nn.Parameter(bare, requires_grad=False) if isinstance(tensor, nn.Parameter) else bare
