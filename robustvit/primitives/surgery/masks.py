"""Pruning masks that are part of a layer: its `weight` is the masked tensor wherever it is read."""

from __future__ import annotations

import copyreg
import math
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article

_BITS = 8  # of a byte


class MaskedWeight(nn.Module):
    """What a layer becomes whose weight is masked: `weight` is computed from `weight_orig` and `weight_mask` at every reading.

    Both are named as torch.nn.utils.prune names them. weight_orig: the parameter, which it may share with another model. weight_mask: a
    buffer, True where the weight is kept. A masked layer is still of its own class (`isinstance(layer, nn.Linear)`), and a training step
    moves kept weights alone.
    """

    weight_orig: nn.Parameter
    weight_mask: Tensor

    @property
    def weight(self) -> Tensor:
        """The weight with zeros where the mask is False; no gradient reaches those."""
        return self.weight_orig.masked_fill(~self.weight_mask, 0.0)

    def weight_bytes(self) -> int:
        """The bytes of its tensors when only non-zero weights are stored, beside a bitmap of one bit for each weight.

        A layer that says what its own stored form takes, as one of quantised weights does, counts what the mask keeps itself.
        """
        own = getattr(super(), "weight_bytes", None)
        if own is not None:
            return int(own())
        rest = [tensor for name, tensor in (*self._parameters.items(), *self._buffers.items()) if tensor is not None and name not in _OWN]
        kept = int(torch.count_nonzero(self.weight)) * self.weight_orig.element_size()
        return kept + math.ceil(self.weight_mask.numel() / _BITS) + sum(tensor.numel() * tensor.element_size() for tensor in rest)

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self)
        if kind in _CLASSES.values():  # by its base, which can be imported: pickle finds no class that was made here
            return _bare, (kind.__bases__[1],), self.__dict__
        return copyreg.__newobj__, (kind,), self.__dict__  # type: ignore[attr-defined]


_OWN = ("weight_orig", "weight_mask")
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


def mask_weight(layer: nn.Module, keep: Tensor) -> None:
    """Masks the weight of a layer in place, without touching its tensors; a layer that has a mask keeps what both keep.

    layer: of a module that is nobody else's, with a parameter `weight`. keep: bool, of the weight's shape, True where it is kept. Raises
    HostRefused for a layer without such a parameter.
    """
    if isinstance(layer, MaskedWeight):
        layer.weight_mask = layer.weight_mask & keep
        return
    dense = layer._parameters.pop("weight", None)
    if dense is None:
        raise HostRefused(f"{with_article(type(layer).__name__)} has no parameter `weight` that can be masked.")
    layer.__class__ = masked_class(type(layer))
    layer.register_parameter("weight_orig", dense)
    layer.register_buffer("weight_mask", keep)


def weight_parameter(layer: nn.Module) -> nn.Parameter:
    """The parameter behind the weight of a layer, masked or not. Raises HostRefused where there is none, as in a quantised layer."""
    found = layer._parameters.get("weight_orig" if isinstance(layer, MaskedWeight) else "weight")
    if found is None:
        raise HostRefused(f"{with_article(type(layer).__name__)} has no parameter `weight`.")
    return found


def masked_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of masked layers of that kind, a subclass of it; the same at every call."""
    if kind not in _CLASSES:
        _CLASSES[kind] = type(f"Masked{kind.__name__}", (MaskedWeight, kind), {"__doc__": f"A masked {kind.__name__}."})
    return _CLASSES[kind]


def smallest(scores: Tensor, count: int) -> Tensor:
    """Which are the `count` smallest scores, exactly so many, ties by index: bool, of the shape of `scores`.

    scores: real numbers, not NaN. count: 0 … scores.numel().
    """
    flat = scores.flatten()
    if not 0 < count < flat.numel():
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    last = flat.kthvalue(count).values
    below, tied = flat < last, flat == last
    taken = below | (tied & (tied.cumsum(0) <= count - below.sum()))
    return taken.view_as(scores)


def _bare(kind: type[nn.Module]) -> nn.Module:
    """A masked layer of that kind without state."""
    made: nn.Module = object.__new__(masked_class(kind))
    return made
