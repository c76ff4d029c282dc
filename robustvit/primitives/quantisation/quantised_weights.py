"""Layers whose weights are those of a quantisation grid, and the bytes that such weights take where they are stored packed."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.quantisation.uniform_quantisation import Granularity, Range, RangeRule, range_of, round_to_grid, uniform_grid
from robustvit.primitives.surgery.modules import named_layers

WEIGHTED = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
"""The kinds of layers whose weights are quantised; torch's MultiheadAttention for its own projection, which is no layer of its own."""
_SCALE_BYTES = 4  # a float32
_MATRICES = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # the latter four of MultiheadAttention


class WeightGrids(NamedTuple):
    """How weights are quantised: bits of a code, values that share a scale, and how a scale is found.

    group: values of one output channel that share a scale, one after another, for granularity `group`; the last group may be smaller.
    """

    bits: int
    granularity: Granularity = "channel"
    group: int = 32
    rule: RangeRule = "minmax"
    percentile: float = 100.0
    symmetric: bool = True


class StoredForm(NamedTuple):
    """Bits of each value of a stored tensor, the bytes of its scales and zero-points, and what its values are rounded to."""

    bits: int
    overhead: int
    to: WeightGrids | torch.dtype

    def rounded(self, weight: Tensor) -> Tensor:
        """The weight rounded to what can be stored."""
        return quantised_weight(weight, self.to) if isinstance(self.to, WeightGrids) else weight.to(self.to).to(weight)


class StoredWeights(nn.Module):
    """What a module becomes whose weights take fewer bytes stored than as tensors; it computes as before, and is still of its class.

    stored: by the name of a parameter, how it is stored.
    """

    stored: dict[str, StoredForm]

    def weight_bytes(self) -> int:
        """The bytes of its own parameters and buffers as stored: packed codes, scales and zero-points; of a masked weight what is kept."""
        own = [*self._parameters.items(), *self._buffers.items()]
        return sum(self._bytes(name, tensor) for name, tensor in own if tensor is not None)

    def _bytes(self, name: str, tensor: Tensor) -> int:
        if name.endswith("_mask"):
            return math.ceil(tensor.numel() / 8)
        form = self.stored.get(name.removesuffix("_orig"))
        if form is None:
            return tensor.numel() * tensor.element_size()
        mask = self._buffers.get(name.removesuffix("_orig") + "_mask")
        count = tensor.numel() if mask is None else int(torch.count_nonzero(tensor * mask))
        return math.ceil(count * form.bits / 8) + form.overhead

    def extra_repr(self) -> str:
        """With the bits of what is stored."""
        return ", ".join(filter(None, (super().extra_repr(), *(f"{name} of {form.bits} bits" for name, form in self.stored.items()))))


def stored_weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, StoredForm]]:
    """The parameters inside a module that are stored in fewer bytes: of which module, their name there, and how."""
    for layer in module.modules():
        if isinstance(layer, StoredWeights):
            for name, form in layer.stored.items():
                yield layer, f"{name}_orig" if name + "_mask" in layer._buffers else name, form


def mix_in(layer: nn.Module, mixin: type[nn.Module]) -> bool:
    """Makes a module one of a subclass of its class and `mixin`, in place; whether it was none before.

    layer: of a module that is nobody else's. A layer with weights is then of a class Quantised…; others keep their name, by which the kind
    of a model is known.
    """
    if isinstance(layer, mixin):
        return False
    layer.__class__ = _mixed(mixin, type(layer))  # type: ignore[arg-type]
    return True


@functools.cache
def _mixed(mixin: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    own = kind.__name__
    name = f"Quantised{own}" if issubclass(kind, WEIGHTED) and not own.startswith("Quantised") else own
    return type(name, (mixin, kind), {"__doc__": kind.__doc__, "__module__": kind.__module__})


def layers_with_weights(transform: str, model: Classifier, module: nn.Module, *kinds: type[nn.Module]) -> dict[str, nn.Module]:
    """The layers of these kinds in a module by name, a shared one once. Raises HostRefused, naming both, for a model that has none."""
    found = dict(named_layers(module, *kinds)) or ({"": module} if isinstance(module, kinds) else {})
    if not found:
        raise HostRefused(f"'{transform}' quantises linear layers and convolutions, and '{model.card.label}' has none.")
    return found


def quantise_weights(layers: Iterable[nn.Module], grids: WeightGrids) -> None:
    """Puts quantised weights, dequantised, in the place of those of layers; tensors themselves are not written into.

    layers: Linear, Conv2d and MultiheadAttention, of a module that is nobody else's; a weight that several share stays one. A mask on a
    weight stays (`weight_orig`, `weight_mask`), as zero is a value of every grid.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}  # by identity
    for layer in layers:
        for name, parameter in _matrices(layer):
            mask = layer._buffers.get(name.removesuffix("_orig") + "_mask")
            if mask is not None or parameter not in made:
                kept = parameter.detach() if mask is None else parameter.detach() * mask
                made[parameter] = nn.Parameter(quantised_weight(kept, grids), requires_grad=False)
            layer._parameters[name] = made[parameter]
            store(layer, name, StoredForm(grids.bits, _overhead(parameter, grids), grids))


def store(layer: nn.Module, name: str, form: StoredForm) -> None:
    """Says how a parameter of a module is stored, under its own name also where a mask has made it `NAME_orig`."""
    if mix_in(layer, StoredWeights):
        layer.stored = {}  # type: ignore[assignment]
    layer.stored = {**layer.stored, name.removesuffix("_orig"): form}  # type: ignore[assignment,dict-item]


def quantised_weight(weight: Tensor, grids: WeightGrids) -> Tensor:
    """The weight (outputs, …) rounded to its grids."""
    parts = [_rounded_rows(part, grids) for part in _scaled_parts(weight, grids)]
    return torch.cat(parts, dim=1).view_as(weight)


def _scaled_parts(weight: Tensor, grids: WeightGrids) -> list[Tensor]:
    """The weight as columns of (outputs, n), or one of (1, n), in each row of which one scale holds."""
    if grids.granularity == "tensor":
        return [weight.reshape(1, -1)]
    rows = weight.flatten(1)
    return [rows] if grids.granularity == "channel" else list(torch.split(rows, grids.group, dim=1))


def _rounded_rows(rows: Tensor, grids: WeightGrids) -> Tensor:
    span = range_of(rows, grids.rule, grids.bits, symmetric=grids.symmetric, percentile=grids.percentile)
    return round_to_grid(rows, uniform_grid(Range(span.low[:, None], span.high[:, None]), grids.bits, grids.symmetric))


def _overhead(weight: Tensor, grids: WeightGrids) -> int:
    """Bytes of scales, and of zero-points, which are as wide as codes."""
    scales = sum(part.shape[0] for part in _scaled_parts(weight, grids))
    return scales * _SCALE_BYTES + (0 if grids.symmetric else math.ceil(scales * grids.bits / 8))


def _matrices(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a layer that are multiplied with its input, under the names that they have there."""
    for name in _MATRICES:
        for own in (name, f"{name}_orig"):
            if (parameter := layer._parameters.get(own)) is not None:
                yield own, parameter
