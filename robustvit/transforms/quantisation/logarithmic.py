"""Logarithmic quantisation of attention maps and of what GELU gives: fine where values are small, as most of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.adaptive_logarithm import PARTS, adaptive_codes, adaptive_levels
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated, run_calibration
from robustvit.primitives.quantisation.gelu_quantisation import GeluQuantiser, gelu_readers
from robustvit.primitives.quantisation.logarithm_search import STEPS, Operand, least_error_logarithms
from robustvit.primitives.quantisation.map_quantisation import (
    MapQuantiser,
    cut_gradient,
    negative_log2,
    quantise_maps,
    with_quantised_maps,
)
from robustvit.primitives.quantisation.quantised_inputs import append_quantiser
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, POLICY_OF, RoundingGradient, check_bits
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec

_STEPS = {"2": 1.0, "sqrt2": 2.0}  # codes for each halving
_SEARCH = {"maps": 6.0, "gelu": 17.0}  # forward passes that comparing candidates on a sample takes; measured


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
    no_op="bits=32", fit="fit_logarithms", passes="search_passes", version=2,
    rules="Simulated, and what follows softmax and GELU alone: AdaLog as a whole is `simulated_quantisation(layernorm=mean, "
    "activation_scale=mse, float_inputs=[mlp.fc2])` with `adalog` after or before it. The search is progressive, with AdaLog's width and "
    "steps, over bases and scales together, where AdaLog settles 8 bases at one scale first; values and weights are as the model has them, "
    "where AdaLog searches in turns with their scales. All steps but the last compare every eleventh row. The largest base, 2^(10/37), "
    "leaves an error of up to a tenth of each value at any number of bits: from 8 bits on a uniform quantiser is better. Calibrate on the "
    "training split. Report the strongest of straight-through, transfer from the host and Square.",
)  # fmt: skip
def adalog(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    bits: Annotated[int, Ge(2), Le(32)] = 4,
    operands: Sequence[Operand] = ("maps", "gelu"),
    samples: Count = 32,
    gradient: RoundingGradient = "straight-through",
) -> Classifier:
    """AdaLog: logarithmic quantisation of attention maps and of the output of GELU, with bases and scales that change least what follows.

    Bases are 2^(q/37) for q from 10 to 138, so that 37 is log2. Levels are powers of two times one of 37 fractions, which are rounded to
    multiples of 1/(2^(bits+1) − 2). calibration: the data that bases and scales are searched on, the first `samples` of it. bits: 2 to 16;
    32 changes nothing. operands: maps, of scale 1, with the base for each block that changes the attended values least; gelu, the input of
    fc2 in every MLP plus 0.16997, so that none is negative, with the base and the scale that change the output of fc2 least. gradient:
    straight-through treats rounding as the identity, and is zero where an output of GELU is clipped to its scale; none leaves the model
    without any gradient. Raises HostRefused for gelu where an MLP is anything but a layer, GELU and a second layer.
    """
    if bits == FLOAT_BITS:
        return changed(model, unchanged)
    _check(bits, operands)
    found = {name: calibrated(artifact, name, (count,), model) for name, count in _sizes(model, operands).items()}

    def change(module: nn.Module) -> nn.Module:
        if "maps" in operands:
            base = found["map_base"]
            quantise_maps(module, lambda at: MapQuantiser(adaptive_codes, adaptive_levels, base[at], bits, gradient), gradient)
        elif gradient == "none":
            cut_gradient(module)
        for at, layer in enumerate(gelu_readers("adalog", model, module) if "gelu" in operands else ()):
            append_quantiser(layer, GeluQuantiser(found["gelu_base"][at], found["gelu_scale"][at], bits, gradient))
        return module

    return changed(model, change, gradient=POLICY_OF[gradient])


def fit_logarithms(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, bits: int, operands: Sequence[Operand], samples: int, gradient: str,
) -> dict[str, Tensor]:  # fmt: skip
    """`map_base`, the q of each block, `gelu_base` and `gelu_scale` of each MLP, of the operands; see `least_error_logarithms`."""
    if bits == FLOAT_BITS:
        return {"map_base": torch.full((len(plain_vit(model.model).blocks),), float(PARTS))}  # not used
    _check(bits, operands)
    found = least_error_logarithms(
        "adalog", model, operands, bits, lambda recording: run_calibration(recording, load_batch, draws, calibration, samples)
    )
    tensors = {
        "map_base": [one.base for one in found["maps"]],
        "gelu_base": [one.base for one in found["gelu"]],
        "gelu_scale": [one.scale for one in found["gelu"]],
    }
    return {name: torch.tensor(tensors[name]) for name in _sizes(model, operands)}


def _check(bits: int, operands: Sequence[Operand]) -> None:
    check_bits("adalog", bits)
    if not operands or len(set(operands)) < len(operands):
        found = ", ".join(operands)
        raise BadParameter(f"transform 'adalog': operands is [{found}]; it takes [maps], [gelu] or [maps, gelu].")


def _sizes(model: Classifier, operands: Sequence[Operand]) -> dict[str, int]:
    """The length of every tensor that is learned, by its name."""
    sizes = {"map_base": len(plain_vit(model.model).blocks)} if "maps" in operands else {}
    if "gelu" in operands:
        sizes |= dict.fromkeys(("gelu_base", "gelu_scale"), len(gelu_readers("adalog", model, model.model)))
    return sizes


def search_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; the search costs some forward passes for each of its own, once."""
    operands = spec.get("operands", ())
    each = sum(cost for operand, cost in _SEARCH.items() if not isinstance(operands, tuple) or operand in operands)
    return Passes(fit=(STEPS + 1 + each) * min(product_of(spec, "samples"), len(plugins["calibration"])) / GRADIENT)
