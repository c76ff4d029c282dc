"""Dynamic quantisation: scales of activations are found while a row is computed, from that row alone."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.quantisation.quantised_inputs import Row, RowQuantiser, quantise_inputs
from robustvit.primitives.quantisation.quantised_weights import WeightGrids, quantise_weights
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, POLICY_OF, RoundingGradient, check_bits
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform


@transform(
    family="quantisation", source="Yao et al. 2022 (ZeroQuant): scales by token", url="https://arxiv.org/abs/2206.01861", no_op="bits=32",
    rules="Simulated: codes are dequantised before products, where ZeroQuant multiplies integers; weights have a scale by channel, its are "
    "by group. Every linear layer and convolution is quantised, the products of attention are not. torch's quantize_dynamic has one "
    "scale for a whole batch, so that a prediction depends on the other rows: such a model is refused. Attack it with `straight-through`, "
    "and from the host, and without gradients.",
)  # fmt: skip
def dynamic_int8(
    model: Classifier, *, bits: Annotated[int, Ge(2), Le(32)] = 8, row: Row = "token", gradient: RoundingGradient = "straight-through"
) -> Classifier:
    """Dynamic int8: weights by output channel, and activations with a scale that each row finds for itself, all symmetric.

    bits: of weights and activations, 2 to 16; 32 changes nothing. row: what shares a scale, a token or all tokens of a sample (a window in
    models of windows); the image before a patch embedding has one. gradient: straight-through treats rounding as the identity; none is what
    integer kernels give, no gradient at all, so that a white-box attack fails its cell.
    """
    check_bits("dynamic_int8", bits)

    def change(module: nn.Module) -> nn.Module:
        def quantiser(name: str, layer: nn.Module) -> nn.Module:
            return RowQuantiser(bits, row, gradient, convolution=isinstance(layer, nn.Conv2d))

        quantise_weights(quantise_inputs("dynamic_int8", model, module, quantiser).values(), WeightGrids(bits))
        return module

    return changed(model, unchanged) if bits == FLOAT_BITS else changed(model, change, gradient=POLICY_OF[gradient])
