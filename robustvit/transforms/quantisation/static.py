"""Static quantisation: scales of activations are found once, on calibration samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Le
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.quantisation.static_scheme import StaticScheme, calibrated_model, calibration_ranges
from robustvit.primitives.quantisation.uniform_quantisation import Granularity, Percentile, RangeRule, RoundingGradient, check_bits
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec

Bits: TypeAlias = Annotated[int, Ge(2), Le(32)]


@transform(
    family="quantisation", source="Jacob et al. 2018; ranges and reparametrisation: Li et al. 2023 (RepQ-ViT), Wu et al. 2024 (AdaLog)",
    url="https://arxiv.org/abs/2212.08254", no_op="weight_bits=32, activation_bits=32", fit="fit_simulated", passes="calibration_passes",
    rules="Simulated: products are computed on dequantised codes in the host's arithmetic; norms, softmax, GELU and residual sums are not "
    "rounded. Ranges are searched by the error of activations, where AdaLog searches by that of a layer's output; weights are rounded to "
    "the nearest, where BRECQ rounds to that error. Reparametrisation is RepQ-ViT's (mean) or DopQ-ViT's (median). Calibrate on the "
    "training split. Report the strongest of straight-through, transfer from the host and Square.",
)  # fmt: skip
def simulated_quantisation(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    weight_bits: Bits = 8,
    activation_bits: Bits = 8,
    attention_bits: Bits = 32,
    map_bits: Bits = 32,
    samples: Count = 32,
    weights: Granularity = "channel",
    activations: Granularity = "tensor",
    group: Count = 32,
    weight_scale: RangeRule = "minmax",
    activation_scale: RangeRule = "minmax",
    percentile: Percentile = 99.9,
    symmetric: bool = False,
    layernorm: Literal["tensor", "mean", "median"] = "tensor",
    float_inputs: Sequence[str] = (),
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """Simulated uniform quantisation of weights and activations at any bits, with activation ranges fixed by calibration.

    weight_bits: of linear layers and convolutions, symmetric. activation_bits: of what these are given. attention_bits: of queries, keys
    and values, and map_bits: of the map after the softmax, both in plain vision transformers alone. Each 2 to 16, or 32 for no rounding.
    calibration: the data that ranges are found on, the first `samples` of it. weights, activations: what shares a scale; `group`
    consecutive weights or channels; a head for queries, keys and values wherever it is not the tensor. weight_scale, activation_scale: the
    least and largest value, `percentile`, or least squared error. symmetric: activations without zero-point. layernorm: ranges by channel
    after each LayerNorm, folded into it and the next layer, around the mean or median channel; plain vision transformers alone.
    float_inputs: names of layers, or ends of names, that are given unrounded activations, such as `mlp.fc2`, whose input `adalog` rounds.
    gradient: straight-through where a value is in its range; none gives no gradient, so that a white-box attack fails its cell.
    """
    scheme = StaticScheme(
        "simulated_quantisation", weight_bits, activation_bits, attention_bits, map_bits, weights, activations, group,
        weight_scale, activation_scale, percentile, symmetric, layernorm, float_inputs,
    )  # fmt: skip
    for name in ("weight_bits", "activation_bits", "attention_bits", "map_bits"):
        check_bits(scheme.name, getattr(scheme, name), name)
    return calibrated_model(model, artifact, scheme, gradient)


def fit_simulated(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, weight_bits: int, activation_bits: int, attention_bits: int, map_bits: int, samples: int, weights: Granularity,
    activations: Granularity, group: int, weight_scale: RangeRule, activation_scale: RangeRule, percentile: float, symmetric: bool,
    layernorm: Literal["tensor", "mean", "median"], float_inputs: Sequence[str], gradient: str,
) -> dict[str, Tensor]:  # fmt: skip
    """The range of every quantised activation, `NAME.low` and `NAME.high`."""
    scheme = StaticScheme(
        "simulated_quantisation", weight_bits, activation_bits, attention_bits, map_bits, weights, activations, group,
        weight_scale, activation_scale, percentile, symmetric, layernorm, float_inputs,
    )  # fmt: skip
    return calibration_ranges(model, load_batch, draws, calibration, samples, scheme)


@transform(
    family="quantisation", source="Jacob et al. 2018", url="https://arxiv.org/abs/1712.05877", no_op="bits=32", fit="fit_static",
    passes="calibration_passes",
    rules="Simulated: products are computed on dequantised codes in the host's arithmetic. Patch embedding and head are quantised, too, "
    "which many keep; the products of attention are not. Ranges are those of all samples, where the paper averages them along batches. "
    "Calibrate on the training split. Report the strongest of straight-through, transfer from the host and Square.",
)  # fmt: skip
def static_int8(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    bits: Bits = 8,
    samples: Count = 32,
    scale: RangeRule = "minmax",
    percentile: Percentile = 99.9,
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """Static int8: symmetric weights by output channel, and a fixed scale and zero-point for what each layer is given.

    `simulated_quantisation` with one width for both. calibration: the data that ranges are found on, the first `samples` of it. bits: 2 to
    16; 32 changes nothing. scale: of activations, the least and largest value, `percentile`, or least squared error. gradient: as there.
    """
    check_bits("static_int8", bits)
    return calibrated_model(model, artifact, _int8(bits, scale, percentile), gradient)


def fit_static(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, bits: int, samples: int, scale: RangeRule, percentile: float, gradient: str,
) -> dict[str, Tensor]:  # fmt: skip
    """The range of every quantised activation, `NAME.low` and `NAME.high`."""
    return calibration_ranges(model, load_batch, draws, calibration, samples, _int8(bits, scale, percentile))


def _int8(bits: int, scale: RangeRule, percentile: float) -> StaticScheme:
    return StaticScheme("static_int8", bits, bits, activation_scale=scale, percentile=percentile)


def calibration_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; one forward pass for each calibration sample, two where ranges need a histogram, once."""
    rule = spec.get("activation_scale", spec.get("scale", "minmax"))
    rounds = 1 if rule == "minmax" else 2
    return Passes(fit=rounds * min(product_of(spec, "samples"), len(plugins["calibration"])) / GRADIENT)
