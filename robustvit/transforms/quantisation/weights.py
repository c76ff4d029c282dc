"""Weights of few bits, and weights in half precision: everything is computed as in the host."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.quantisation.quantised_weights import (
    WEIGHTED,
    StoredForm,
    WeightGrids,
    layers_with_weights,
    quantise_weights,
    store,
)
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, Granularity, Percentile, RangeRule, check_bits
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@transform(
    family="quantisation", source="Jacob et al. 2018, weights alone", url="https://arxiv.org/abs/1712.05877", no_op="bits=32",
    rules="Simulated: weights are dequantised and every product is computed in the host's arithmetic, where an integer kernel rounds "
    "differently in the last digits. Embeddings, norms and biases stay float32, as do activations. Report `weights_bytes` beside it.",
)  # fmt: skip
def quantize(
    model: Classifier,
    *,
    bits: Annotated[int, Ge(2), Le(32)] = 8,
    granularity: Granularity = "channel",
    group: Count = 32,
    scale: RangeRule = "minmax",
    percentile: Percentile = 99.9,
    symmetric: bool = True,
) -> Classifier:
    """Weight-only uniform quantisation of every linear layer and convolution; activations stay as they are.

    bits: 2 to 16; 32 changes nothing. granularity: one scale for a tensor, for each output channel, or for each `group` of consecutive
    weights of a channel. scale: from the least to the largest weight, between percentiles, or the range of least squared error. percentile:
    for `scale=percentile`, of absolute weights where symmetric. symmetric: codes around zero, or with a zero-point. The projection of
    torch's MultiheadAttention is quantised, too. Gradients are exact: they are those of a model with these weights.
    """
    check_bits("quantize", bits)
    grids = WeightGrids(bits, granularity, group, scale, percentile, symmetric)

    def change(module: nn.Module) -> nn.Module:
        quantise_weights(layers_with_weights("quantize", model, module, *WEIGHTED).values(), grids)
        return module

    return changed(model, change if bits < FLOAT_BITS else unchanged)


@transform(
    family="quantisation", source="Micikevicius et al. 2018; Kalamkar et al. 2019 for bfloat16", url="https://arxiv.org/abs/1710.03740",
    no_op="dtype=float32",
    rules="Weights alone: activations are what the host computes. `--precision bfloat16` computes in half precision, which is another "
    "question, and both can be asked together.",
)  # fmt: skip
def half_precision(model: Classifier, *, dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16") -> Classifier:
    """Half-precision weights: every parameter rounded to bfloat16 or float16 (nearest, ties to even), stored in two bytes.

    Linear layers, convolutions, norms, biases and embeddings are rounded; buffers, such as running statistics, are not. Rounded values are
    kept as float32, so that activations and products are those of the host's arithmetic. dtype: float32 changes nothing. Gradients are
    exact. Raises HostRefused where a weight is beyond the range of float16, which would make it infinite.
    """

    def change(module: nn.Module) -> nn.Module:
        halves = {parameter: _half(parameter, dtype) for parameter in module.parameters()}  # by identity: shared ones stay shared
        for name, part in [*module.named_modules()]:
            for own, parameter in [*part.named_parameters(recurse=False)]:
                if not bool(torch.isfinite(halves[parameter]).all()):
                    where = f"{name}.{own}".lstrip(".")
                    raise HostRefused(f"'half_precision': '{model.card.label}' has weights beyond the range of {dtype} in {where}.")
                part._parameters[own] = halves[parameter]
                store(part, own, StoredForm(16, 0, _HALVES[dtype]))
        return module

    return changed(model, unchanged if dtype == "float32" else change)


def _half(parameter: nn.Parameter, dtype: str) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(_HALVES[dtype]).to(parameter.dtype), requires_grad=False)
