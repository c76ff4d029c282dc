"""The file that training leaves: weights as safetensors, and in their header what they are weights of."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, ModelError
from robustvit.spec.view import View

HEADER = "robustvit"  # the key in a safetensors header

Stored: TypeAlias = Literal["float16", "float32"]
_TYPES: dict[Stored, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself, so that its path is enough: kept as JSON in the header of a safetensors file.

    arch, kwargs (`img_size=32,depth=4`), num_classes: what timm builds it from. mean, std: its normalisation. view: `size`, `resize`,
    `crop`, `interpolation`, where it is not the architecture's own. accuracy: the share of the held-out split that the stored weights
    answer rightly, where it was measured. command: what made it.
    """

    arch: str = ""
    kwargs: str = ""
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    view: dict[str, Any] | None = None
    accuracy: float | None = None
    command: str = ""

    def own_view(self) -> View | None:
        """The view it asks for, or None for the architecture's."""
        return None if self.view is None else View(**{**self.view, "size": tuple(self.view["size"])})

    def header(self) -> dict[str, str]:
        """The metadata to write into a safetensors file."""
        return {HEADER: json.dumps({key: value for key, value in vars(self).items() if value not in (None, "")}, sort_keys=True)}


def save(model: nn.Module, path: Path, about: About, stored: Stored = "float16") -> None:
    """Writes a model's weights, whole or not at all, with `about` as JSON under HEADER.

    Raises ModelError where a weight does not fit `stored`, BadParameter where the place cannot be written.
    """
    tensors = {name: as_stored(name, tensor, stored).cpu().contiguous() for name, tensor in model.state_dict().items()}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(safetensors.torch.save(tensors, metadata=about.header()))
        os.replace(unfinished, path)
    except OSError as error:
        raise BadParameter(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def rounded(model: nn.Module, stored: Stored) -> nn.Module:
    """A copy of the model with every weight at a value that `stored` can hold, in its own type."""
    copied = copy.deepcopy(model)
    state = model.state_dict()
    copied.load_state_dict({name: as_stored(name, tensor, stored).to(tensor.dtype) for name, tensor in state.items()})
    return copied


def as_stored(name: str, tensor: Tensor, stored: Stored) -> Tensor:
    """The tensor as the file keeps it: numbers with a fraction in the type `stored`, others as they are.

    Raises ModelError where a finite number becomes infinite.
    """
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    kept = tensor.detach().to(_TYPES[stored], copy=True)
    if bool((kept.isinf() & tensor.isfinite()).any()):
        raise ModelError(f"the weight '{name}' has numbers that {stored} cannot hold; store them as float32.")
    return kept
