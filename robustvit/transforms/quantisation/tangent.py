"""Quantisation of attention maps by a tangent: fine where attention is large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated
from robustvit.primitives.quantisation.map_quantisation import with_quantised_maps
from robustvit.primitives.quantisation.map_search import least_error_parameters
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, RoundingGradient, check_bits
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec

_CURVES = 32  # values of a that are compared, from 0 on, evenly below π/2
_SEARCH = 14.0  # forward passes that comparing them on a sample takes; measured


@transform(
    family="quantisation", source="Yang et al. 2024 (DopQ-ViT), reconstructed", url="https://arxiv.org/abs/2408.03291", hosts="plain",
    no_op="bits=32", fit="fit_curves", passes="curve_passes",
    rules="Experimental: the paper's formula was not available, and this one is reconstructed from its description; no number of the paper "
    "is claimed. On maps seen so far the search mostly chose the uniform quantiser, as the tangent leaves few levels to small values. The "
    "paper's other half, medians in the place of means, is `simulated_quantisation(layernorm=median)`. Simulated, and the maps alone.",
)  # fmt: skip
def dopq(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    bits: Annotated[int, Ge(2), Le(32)] = 4,
    samples: Count = 32,
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """TanQ of DopQ-ViT (experimental): attention maps x rounded evenly in tan(a·x), with an a for each block.

    a is searched among 32 values, even from 0 to below π/2, for the least change of the attended values; a = 0 is the uniform quantiser on
    [0, 1], so that the result is never worse than that. calibration: the data that it is searched on, the first `samples` of it. bits: 2 to
    16; 32 changes nothing. gradient: straight-through treats rounding as the identity; none leaves the model without any gradient.
    """
    check_bits("dopq", bits)
    curves = calibrated(artifact, "curve", (_depth(model),), model)
    return with_quantised_maps(model, tangent_codes, tangent_levels, lambda at: curves[at], bits, gradient)


def fit_curves(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, bits: int, samples: int, gradient: str
) -> dict[str, Tensor]:
    """The a of each block (blocks,), see `least_error_parameters`; 0 where nothing is quantised."""
    if bits == FLOAT_BITS:
        return {"curve": torch.zeros(_depth(model))}
    candidates = torch.arange(_CURVES, dtype=torch.float32, device=model.device) * (math.pi / 2 / _CURVES)
    found = least_error_parameters(model, load_batch, draws, calibration, samples, candidates, tangent_codes, tangent_levels, bits)
    return {"curve": found}


def tangent_codes(values: Tensor, curve: Tensor, bits: int) -> Tensor:
    """round((2^bits − 1)·tan(a·x) / tan(a)), at a = 0 round((2^bits − 1)·x)."""
    share = torch.where(curve == 0, values, torch.tan(curve * values) / torch.where(curve == 0, 1.0, torch.tan(curve)))
    codes: Tensor = (share * (2**bits - 1)).round()
    return codes.clamp(0, 2**bits - 1)


def tangent_levels(curve: Tensor, bits: int) -> Tensor:
    """atan(k·tan(a) / (2^bits − 1)) / a for the code k, at a = 0 k / (2^bits − 1). → (2^bits,)."""
    share = torch.arange(2**bits, device=curve.device, dtype=curve.dtype) / (2**bits - 1)
    return torch.where(curve == 0, share, torch.atan(share * torch.tan(curve)) / torch.where(curve == 0, 1.0, curve))


def curve_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; the search costs some forward passes for each of its own, once."""
    return Passes(fit=_SEARCH * min(product_of(spec, "samples"), len(plugins["calibration"])) / GRADIENT)


def _depth(model: Classifier) -> int:
    return len(plain_vit(model.model).blocks)
