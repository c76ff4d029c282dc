"""Logarithmic quantisation of what GELU gives, and where in a vision transformer that is."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.quantisation.adaptive_logarithm import adaptive_codes, adaptive_levels
from robustvit.primitives.quantisation.map_quantisation import quantised_map
from robustvit.primitives.quantisation.uniform_quantisation import RoundingGradient, straight_through
from robustvit.primitives.surgery.hosts import plain_vit

GELU_SHIFT = 0.16997120747990369  # −min GELU, which is x²·φ(x) where Φ(x) + x·φ(x) = 0, at x = −0.75179…
_GELU = (nn.GELU, GELU, GELUTanh)


class GeluQuantiser(nn.Module):
    """Quantisation of what GELU gives to the levels of AdaLog's scheme, from −0.17 to scale − 0.17, computed in float32 at least.

    Values are shifted by −min GELU, so that none is negative, divided by the scale, quantised, and brought back. base: q, scale: of the
    shifted values; both kept as buffers, not a number until they are calibrated or loaded. gradient: straight-through passes the gradient
    where a value is at most scale − 0.17, and none where it is clipped to that; none cuts the graph.
    """

    base: Tensor
    scale: Tensor

    def __init__(self, base: Tensor, scale: Tensor, bits: int, gradient: RoundingGradient) -> None:
        super().__init__()
        self.bits, self.gradient = bits, gradient
        self.register_buffer("base", base.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """(…) → the same shape."""
        exact = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        base, scale = self.base.to(exact.dtype), self.scale.to(exact.dtype)
        shares = (exact.detach() + GELU_SHIFT) / scale
        found = quantised_map(shares, adaptive_codes, adaptive_levels, base, self.bits) * scale - GELU_SHIFT
        if self.gradient == "none":
            return found.to(values.dtype)
        inside = torch.where(exact.detach() + GELU_SHIFT > scale, exact.detach(), exact)
        return straight_through(found, inside).to(values.dtype)


def gelu_readers(transform: str, model: Classifier, module: nn.Module) -> list[Any]:
    """The linear layers that read the output of GELU in a plain vision transformer's MLPs, one that blocks share once.

    Raises HostRefused, naming transform and model, where an MLP is anything but a layer, GELU and a second layer.
    """
    found: dict[int, Any] = {}
    for block in plain_vit(module).blocks:
        if why := _why_no_gelu(block.mlp):
            raise HostRefused(f"'{transform}' quantises the output of GELU in every MLP, and '{model.card.label}' has one {why}.")
        found[id(block.mlp.fc2)] = block.mlp.fc2
    return list(found.values())


def _why_no_gelu(mlp: Any) -> str:
    if type(mlp).__name__ != "Mlp":
        return f"of the type {type(mlp).__name__}"
    if not isinstance(mlp.act, _GELU):
        return f"with the activation function {type(mlp.act).__name__}"
    return "" if isinstance(mlp.norm, nn.Identity) else f"with {with_article(type(mlp.norm).__name__)} after GELU"
