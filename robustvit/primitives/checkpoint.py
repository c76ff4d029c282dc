"""Checkpoints that training writes: weights as safetensors, with a header from which the model can be built."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn

from robustvit.errors import ModelError
from robustvit.spec.view import View

HEADER = "robustvit"  # the key in a safetensors header

Stored: TypeAlias = Literal["float16", "float32"]
_TYPES: dict[Stored, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class About:
    """The metadata from which a checkpoint can be loaded by its path alone, stored as JSON in the header of a safetensors file.

    arch, kwargs (`img_size=32,depth=4`), num_classes: timm's arguments. mean, std: its normalisation. view: `size`, `resize`, `crop`,
    `interpolation`, where it is not the architecture's own. accuracy: of the stored weights on the held-out split, where it was measured.
    command: the command line that trained it. classes: the names of its classes.
    """

    arch: str = ""
    kwargs: str = ""
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    view: dict[str, Any] | None = None
    accuracy: float | None = None
    command: str = ""
    classes: tuple[str, ...] = ()

    def own_view(self) -> View | None:
        """The stored view, or None for the architecture's."""
        return None if self.view is None else View(**{**self.view, "size": tuple(self.view["size"])})

    def header(self) -> dict[str, str]:
        """The metadata to write into a safetensors file."""
        return {HEADER: json.dumps({key: value for key, value in vars(self).items() if value not in (None, "", ())}, sort_keys=True)}


def checkpoint_bytes(model: nn.Module, about: About, stored: Stored = "float16") -> bytes:
    """The content of a safetensors file of a model's weights, with `about` as JSON under HEADER.

    Raises ModelError where a weight overflows `stored`.
    """
    tensors = {name: as_stored(name, tensor, stored).cpu().contiguous() for name, tensor in model.state_dict().items()}
    content: bytes = safetensors.torch.save(tensors, metadata=about.header())
    return content


def rounded(model: nn.Module, stored: Stored) -> nn.Module:
    """A copy of the model with every weight rounded to a value of `stored`, in its own dtype."""
    copied = copy.deepcopy(model)
    state = model.state_dict()
    copied.load_state_dict({name: as_stored(name, tensor, stored).to(tensor.dtype) for name, tensor in state.items()})
    return copied


def as_stored(name: str, tensor: Tensor, stored: Stored) -> Tensor:
    """The tensor as the file stores it: floating-point tensors as `stored`, others unchanged.

    Raises ModelError where a finite number becomes infinite.
    """
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    kept = tensor.detach().to(_TYPES[stored], copy=True)
    if bool((kept.isinf() & tensor.isfinite()).any()):
        raise ModelError(f"the weight '{name}' has numbers that overflow {stored}; store them as float32.")
    return kept
