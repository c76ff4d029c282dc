"""Logarithmic quantisation of attention maps: fine where attention is small, as most of it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated
from robustvit.primitives.quantisation.map_quantisation import negative_log2, with_quantised_maps
from robustvit.primitives.quantisation.map_search import least_error_parameters
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, RoundingGradient, check_bits
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec

_STEPS = {"2": 1.0, "sqrt2": 2.0}  # codes for each halving
_PARTS = 37  # AdaLog's r: a base is 2^(q/37)
_FINEST, _COARSEST = 10, 138  # AdaLog's smallest and largest q
_SEARCH = 25.0  # forward passes that comparing all bases on a sample takes; measured


@transform(
    family="quantisation", source="Lin et al. 2022 (FQ-ViT); base √2: Li et al. 2023 (RepQ-ViT)", url="https://arxiv.org/abs/2111.13824",
    hosts="plain", no_op="bits=32",
    rules="Simulated, and the maps alone: compose it with `quantize` or `simulated_quantisation` for weights and activations. The scale is "
    "1, where FQ-ViT's is that of its integer softmax. Report the strongest of straight-through, transfer from the host and Square.",
)  # fmt: skip
def log2(
    model: Classifier,
    *,
    bits: Annotated[int, Ge(2), Le(32)] = 4,
    base: Literal["2", "sqrt2"] = "2",
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """Logarithmic quantisation of attention maps: each value becomes the nearest power of ½, or of √½, in the exponent.

    bits: 2 to 16; values whose code is 2^bits or more become 0; 32 changes nothing. base: 2, or √2 with half the range. gradient:
    straight-through treats rounding as the identity; none leaves the model without any gradient, so that a white-box attack fails its cell.
    """
    check_bits("log2", bits)
    steps = torch.tensor(_STEPS[base], device=model.device)
    return with_quantised_maps(model, log_codes, log_levels, lambda _: steps, bits, gradient)


def log_codes(values: Tensor, steps: Tensor, bits: int) -> Tensor:
    """round(−steps·log₂ x), 2^bits for all that is below the last level. steps: codes for each halving."""
    return (negative_log2(values) * steps).round().clamp(max=2**bits)


def log_levels(steps: Tensor, bits: int) -> Tensor:
    """2^(−code / steps), and 0 for the code 2^bits. → (2^bits + 1,)."""
    codes = torch.arange(2**bits, device=steps.device, dtype=steps.dtype)
    return torch.cat((torch.exp2(-codes / steps), steps.new_zeros(1)))


@transform(
    family="quantisation", source="Wu et al. 2024 (AdaLog)", url="https://arxiv.org/abs/2407.12951", licence="Apache-2.0", hosts="plain",
    no_op="bits=32", fit="fit_bases", passes="base_passes",
    rules="Simulated, and the maps alone, where AdaLog quantises the output of GELU by the same scheme, and all else uniformly: compose it "
    "with `simulated_quantisation(layernorm=mean)`. The base is searched with the values as the model has them, over all of AdaLog's 129 "
    "bases, where it takes turns with the scale of the values. Its largest base, 2^(10/37), leaves an error of up to a tenth of each value "
    "at any number of bits: from 8 bits on a uniform quantiser is better. Calibrate on the training split.",
)  # fmt: skip
def adalog(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    bits: Annotated[int, Ge(2), Le(32)] = 4,
    samples: Count = 32,
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """AdaLog: logarithmic quantisation of attention maps, with a base for each block that changes the attended values least.

    Bases are 2^(q/37) for q from 10 to 138, so that 37 is log2. Levels are powers of two times one of 37 fractions, which are rounded to
    multiples of 1/(2^(bits+1) − 2). calibration: the data that bases are searched on, the first `samples` of it. bits, gradient: as in
    `log2`.
    """
    check_bits("adalog", bits)
    bases = calibrated(artifact, "base", (_depth(model),), model)
    return with_quantised_maps(model, adaptive_codes, adaptive_levels, lambda at: bases[at], bits, gradient)


def fit_bases(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, bits: int, samples: int, gradient: str
) -> dict[str, Tensor]:
    """The q of each block (blocks,), see `least_error_parameters`; 37 where nothing is quantised."""
    if bits == FLOAT_BITS:
        return {"base": torch.full((_depth(model),), float(_PARTS))}
    candidates = torch.arange(_FINEST, _COARSEST + 1, dtype=torch.float32, device=model.device)
    found = least_error_parameters(model, load_batch, draws, calibration, samples, candidates, adaptive_codes, adaptive_levels, bits)
    return {"base": found}


def adaptive_codes(values: Tensor, base: Tensor, bits: int) -> Tensor:
    """round(−log₂ x · 37 / q), 2^bits for all that is below the last level."""
    return (negative_log2(values) * (_PARTS / base)).round().clamp(max=2**bits)


def adaptive_levels(base: Tensor, bits: int) -> Tensor:
    """2^(−⌊kq/37⌋) · T[kq mod 37] for the code k, T[j] = 2^(−j/37) in multiples of 1/(2^(bits+1) − 2), and 0. → (2^bits + 1,)."""
    exponents = torch.arange(2**bits, device=base.device, dtype=base.dtype) * base
    halvings = (exponents / _PARTS).floor()
    unit = 2 ** (bits + 1) - 2
    fractions = (torch.exp2(-(exponents - halvings * _PARTS) / _PARTS) * unit).round() / unit
    return torch.cat((fractions * torch.exp2(-halvings), base.new_zeros(1)))


def _depth(model: Classifier) -> int:
    """The number of blocks of a plain vision transformer."""
    return len(plain_vit(model.model).blocks)


def base_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; the search costs some forward passes for each of its own, once."""
    return Passes(fit=_SEARCH * min(product_of(spec, "samples"), len(plugins["calibration"])) / GRADIENT)
