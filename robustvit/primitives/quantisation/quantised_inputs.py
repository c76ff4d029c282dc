"""Layers whose inputs are quantised, in any model that calls its layers, and quantisers with a scale for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, few
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.quantisation.quantised_weights import layers_with_weights, mix_in
from robustvit.primitives.quantisation.uniform_quantisation import Grid, Range, RoundingGradient, quantised, uniform_grid

Row: TypeAlias = Literal["token", "sample"]


class QuantisedInputs(nn.Module):
    """What a layer becomes whose input goes through its submodule `inputs` first; it is still of its class."""

    inputs: nn.Module

    def forward(self, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the layer makes of the quantised input."""
        made: Tensor = super().forward(self.inputs(values), *args, **kwargs)
        return made


class RowQuantiser(nn.Module):
    """Symmetric quantisation with a scale for each row of the input, found from the row itself and from nothing else.

    row: token, the last axis of tokens (…, features), or sample, all that belongs to one index of the first axis: an image, or a window in
    models of windows. The feature map (N, C, H, W) before a convolution has one scale for each index. The largest absolute value becomes
    the last code: nothing is clipped.
    """

    def __init__(self, bits: int, row: Row, gradient: RoundingGradient, *, convolution: bool = False) -> None:
        super().__init__()
        self.bits, self.gradient = bits, gradient
        self.whole = convolution or row == "sample"

    def forward(self, values: Tensor) -> Tensor:
        """(N, …) → the same shape."""
        axes = tuple(range(1, values.dim())) if self.whole else (-1,)
        most = values.detach().abs().amax(dim=axes, keepdim=True)
        most = most.float() if most.dtype in (torch.float16, torch.bfloat16) else most
        return quantised(values, uniform_grid(Range(-most, most), self.bits, symmetric=True), self.gradient)


class GridQuantiser(nn.Module):
    """Uniform quantisation to a grid that is fixed, kept as buffers.

    scale, zero of the grid: () or (channels,), along `axis` of the values.
    """

    scale: Tensor
    zero: Tensor

    def __init__(self, grid: Grid, axis: int, gradient: RoundingGradient) -> None:
        super().__init__()
        self.axis, self.gradient, self.lowest, self.highest = axis, gradient, grid.lowest, grid.highest
        self.register_buffer("scale", grid.scale.clone())
        self.register_buffer("zero", grid.zero.clone())

    def forward(self, values: Tensor) -> Tensor:
        """(…) → the same shape."""
        after = (1,) * (-self.axis - 1 if self.axis < 0 else values.dim() - self.axis - 1)
        scale, zero = (one.reshape(*one.shape, *after) if one.dim() else one for one in (self.scale, self.zero))
        return quantised(values, Grid(scale, zero, self.lowest, self.highest), self.gradient)


def quantise_inputs(
    transform: str, model: Classifier, module: nn.Module, make: Callable[[str, nn.Module], nn.Module | None]
) -> dict[str, nn.Module]:
    """Puts a quantiser before every linear layer and convolution of a module that is nobody else's; returns these layers by name.

    make: of a layer's name and the layer, its quantiser, which follows the one that it has already, or None for none. A layer that no image
    reaches has none.
    Raises HostRefused, naming transform and model, where there is no such layer, and where the module computes with the weights of one
    without calling it, so that its inputs cannot be quantised.
    """
    call_projections(module)
    layers = layers_with_weights(transform, model, module, nn.Linear, nn.Conv2d)
    called = _called(model, module, layers)
    if passed := [name for name, layer in layers.items() if name not in called and _is_used(model, module, layer)]:
        raise HostRefused(
            f"'{transform}' quantises what linear layers are given, and '{model.card.label}' computes with {len(passed)} of them without "
            f"calling them, as torch's MultiheadAttention does ({few(passed)})."
        )
    for name in called:
        if (quantiser := make(name, layers[name])) is not None:
            append_quantiser(layers[name], quantiser)
    return {name: layers[name] for name in called}


def call_projections(module: nn.Module) -> None:
    """Gives timm's attention with separate query and value biases (EVA, BEiT, Swin V2) a projection that has them, in place.

    It calls such a layer, where it would compute with its weight alone. Logits stay as they are.
    """
    for part in module.modules():
        bias = [getattr(part, name, None) for name in ("q_bias", "k_bias", "v_bias")]
        qkv: Any = getattr(part, "qkv", None)
        if isinstance(qkv, nn.Linear) and qkv.bias is None and all(isinstance(one, Tensor) for one in bias):
            qkv.bias = nn.Parameter(torch.cat([one.detach() for one in bias if one is not None]), requires_grad=False)
            part.q_bias = part.k_bias = part.v_bias = None  # type: ignore[assignment]


class _Noting(nn.Module):
    """Passes on what it is given, and knows that it was."""

    called = False

    def forward(self, values: Tensor) -> Tensor:
        self.called = True
        return values


def _called(model: Classifier, module: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    """The names of the layers that are called for an image."""
    noting = {name: _Noting() for name in layers}
    before = {name: layer.inputs if isinstance(layer, QuantisedInputs) else nn.Identity() for name, layer in layers.items()}
    for name, layer in layers.items():
        append_quantiser(layer, noting[name])
    _blank_logits(model, module)
    for name, layer in layers.items():
        layer.inputs = before[name]  # type: ignore[assignment]
    return [name for name, note in noting.items() if note.called]


def append_quantiser(layer: nn.Module, quantiser: nn.Module) -> None:
    """Makes a layer of a module that is nobody else's quantise its input, after the quantisers that it has already."""
    new = mix_in(layer, QuantisedInputs)
    layer.inputs = quantiser if new or isinstance(layer.inputs, nn.Identity) else nn.Sequential(layer.inputs, quantiser)  # type: ignore[arg-type]


def _is_used(model: Classifier, module: nn.Module, layer: nn.Module) -> bool:
    """Whether logits depend on the weights of a layer: those that are no numbers make logits that are none."""
    before = dict(layer._parameters)
    for name, parameter in before.items():
        if parameter is not None:
            layer._parameters[name] = nn.Parameter(torch.full_like(parameter, torch.nan), requires_grad=False)
    try:
        return not bool(torch.isfinite(_blank_logits(model, module)).all())
    finally:
        layer._parameters.update(before)


def _blank_logits(model: Classifier, module: nn.Module) -> Tensor:
    blank = torch.zeros(1, model.channels, *computed_size(model), device=model.device, dtype=model.mean.dtype)  # type: ignore[arg-type]
    with torch.no_grad(), model.module_context():
        logits: Tensor = module(blank)
    return logits
