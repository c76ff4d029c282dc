"""Quantisers of attention maps: a code for each value and a list of what the codes stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.quantisation.uniform_quantisation import FLOAT_BITS, POLICY_OF, RoundingGradient, straight_through
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.plain_attention import quantise_operand

Codes: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""Values in [0, 1], a parameter () and bits → codes as whole numbers of float, from 0 to the number of levels less one."""
Levels: TypeAlias = Callable[[Tensor, int], Tensor]
"""A parameter () and bits → (L,) what the codes stand for."""

LEAST = 1e-15  # the smallest value whose logarithm is taken, as in AdaLog


class MapQuantiser(nn.Module):
    """Quantisation of values in [0, 1] to the levels of a scheme with one parameter, computed in float32 at least.

    parameter: of the scheme, kept as a buffer; not a number until it is calibrated or loaded. gradient: straight-through is the identity
    everywhere, as no value is outside the range; none cuts the graph.
    """

    parameter: Tensor

    def __init__(self, codes: Codes, levels: Levels, parameter: Tensor, bits: int, gradient: RoundingGradient) -> None:
        super().__init__()
        self.codes, self.levels, self.bits, self.gradient = codes, levels, bits, gradient
        self.register_buffer("parameter", parameter.detach().clone())

    def forward(self, maps: Tensor) -> Tensor:
        """(…) → the same shape."""
        exact = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
        found = quantised_map(exact.detach(), self.codes, self.levels, self.parameter.to(exact.dtype), self.bits)
        return (straight_through(found, exact) if self.gradient == "straight-through" else found).to(maps.dtype)


def quantised_map(values: Tensor, codes: Codes, levels: Levels, parameter: Tensor, bits: int) -> Tensor:
    """Values in [0, 1] at their levels; not a number where the parameter is none."""
    return levels(parameter, bits)[codes(values, parameter, bits).nan_to_num(0.0).long()]


def negative_log2(values: Tensor) -> Tensor:
    """−log₂ of values in [0, 1], those below 1e-15 as 1e-15."""
    return -values.clamp(LEAST, 1.0).log2()


class CutGradient(nn.Module):
    """Passes values on and no gradient back, as kernels without a backward pass do."""

    def forward(self, values: Tensor) -> Tensor:
        """The values without their graph."""
        return values.detach()


def with_quantised_maps(
    model: Classifier, codes: Codes, levels: Levels, parameter_of: Callable[[int], Tensor], bits: int, gradient: RoundingGradient
) -> Classifier:  # fmt: skip
    """The Classifier whose attention maps have the levels of a scheme; at 32 bits a copy that computes as the model does.

    parameter_of: of a block's index, the parameter () of the scheme there.
    """

    def change(module: nn.Module) -> nn.Module:
        return quantise_maps(module, lambda at: MapQuantiser(codes, levels, parameter_of(at), bits, gradient), gradient)

    return changed(model, unchanged) if bits == FLOAT_BITS else changed(model, change, gradient=POLICY_OF[gradient])


def quantise_maps(module: nn.Module, make: Callable[[int], nn.Module], gradient: RoundingGradient) -> nn.Module:
    """Puts a quantiser after the softmax of every block of a plain vision transformer that is nobody else's; returns the module.

    make: of a block's index, its quantiser. gradient: none leaves the logits without any gradient, those that pass beside the maps, too.
    """
    vit = plain_vit(module)
    for index, block in enumerate(vit.blocks):
        block.attn = quantise_operand(block.attn, "map", make(index))
    if gradient == "none":
        cut_gradient(module)
    return module


def cut_gradient(module: nn.Module) -> None:
    """Lets no gradient pass from the blocks of a plain vision transformer to its embedded tokens, in place."""
    vit = plain_vit(module)
    vit.norm_pre = nn.Sequential(vit.norm_pre, CutGradient())
