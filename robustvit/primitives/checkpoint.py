"""Checkpoints that robustvit writes: weights as safetensors, with a header from which the model can be built."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from robustvit.errors import ModelError, with_article
from robustvit.primitives.model_card import tensors_digest
from robustvit.spec.registry import entries
from robustvit.spec.spec import Spec, canonical
from robustvit.spec.view import View

HEADER = "robustvit"  # the key in a safetensors header
LEARNED = "robustvit.learned."  # what names of tensors begin with that a transform learned: LEARNED, its place in the list, a dot, its name

Stored: TypeAlias = Literal["float16", "float32"]
_TYPES: dict[Stored, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


def resizing(transforms: Iterable[Spec]) -> bool:
    """Whether one of the transforms is registered as one that changes the size of images."""
    known = entries("transform")
    return any(known[spec.name].resizes for spec in transforms if spec.name in known)


@dataclass(frozen=True)
class About:
    """The metadata from which a checkpoint can be loaded by its path alone, stored as JSON in the header of a safetensors file.

    arch, kwargs (`img_size=32,depth=4`), num_classes: timm's arguments, or those of a registered architecture `arch/NAME` of that version.
    origin: in place of them, the address of the code or the repository that has the architecture (`hf/ORG/NAME`, `my_models:small`).
    mean, std: its normalisation. view: `size`, `resize`, `crop`, `interpolation`, where it is not the architecture's own. accuracy: of the
    stored weights on the held-out split, where it was measured. command: the command line that trained it. classes: the names of its
    classes. surgery: the bound transforms that made the module, in order, before its weights were what the file holds. learned: the names
    of the tensors that these learned, each after its transform's place and a dot. backbone: the
    address of the model that training began from, and the fingerprint of its weights.
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
    version: int | None = None
    origin: str = ""
    surgery: tuple[Spec, ...] = ()
    learned: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()

    def own_view(self) -> View | None:
        """The stored view, or None for the architecture's."""
        if self.view is None:
            return None
        sizes: dict[str, Any] = {key: tuple(self.view[key]) for key in ("size", *({"shown"} & self.view.keys()))}
        return View(**{**self.view, **sizes})

    @property
    def resized(self) -> bool:
        """Whether its transforms change the size of images, so that the stored view is of the size after them."""
        return resizing(self.surgery)

    def header(self) -> dict[str, str]:
        """The metadata to write into a safetensors file."""
        written = {**vars(self), "surgery": canonical(self.surgery)}
        return {HEADER: json.dumps({key: value for key, value in written.items() if value not in (None, "", (), [])}, sort_keys=True)}


def checkpoint_bytes(
    model: nn.Module, about: About, stored: Stored = "float16", learned: Sequence[Mapping[str, Tensor]] = ()
) -> bytes:  # fmt: skip
    """The content of a safetensors file of a model's weights, with `about` as JSON under HEADER.

    learned: for each transform of `about.surgery` the tensors that it learned, stored as they are. Raises ModelError where a weight
    overflows `stored`, or is no plain tensor.
    """
    tensors = {name: as_stored(name, tensor, stored) for name, tensor in model.state_dict().items()}
    tensors |= {LEARNED + name: tensor.detach().clone() for name, tensor in _by_place(learned).items()}
    content: bytes = safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata=about.header())
    return content


def with_surgery(identity: Spec, surgery: Sequence[Spec], learned: Sequence[Mapping[str, Tensor]]) -> Spec:
    """The identity of a model after transforms: its own, their Specs, and a digest of what they learned."""
    if not surgery:
        return identity
    named = identity.with_params(surgery=tuple(surgery))
    return named.with_params(learned=tensors_digest(_by_place(learned))) if any(learned) else named


def learned_names(learned: Sequence[Mapping[str, Tensor]]) -> tuple[str, ...]:
    """The names of what transforms learned, as a header has them."""
    return tuple(sorted(_by_place(learned)))


def _by_place(learned: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{place}.{name}": tensor for place, artifact in enumerate(learned) for name, tensor in artifact.items()}


def rounded(model: nn.Module, stored: Stored) -> nn.Module:
    """A copy of the model with every weight rounded to a value of `stored`, in its own dtype."""
    copied = copy.deepcopy(model)
    state = model.state_dict()
    copied.load_state_dict({name: as_stored(name, tensor, stored).to(tensor.dtype) for name, tensor in state.items()})
    return copied


def as_stored(name: str, tensor: Tensor, stored: Stored) -> Tensor:
    """The tensor as the file stores it: floating-point tensors as `stored`, others unchanged.

    Raises ModelError where a finite number becomes infinite, and for what is no plain tensor.
    """
    check_plain(name, tensor)
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    kept = tensor.detach().to(_TYPES[stored], copy=True)
    if bool((kept.isinf() & tensor.isfinite()).any()):
        raise ModelError(
            f"the weight '{name}' has numbers that overflow {stored}: store them as float32, or, where training made them so large, take a "
            "lower lr."
        )
    return kept


def check_plain(name: str, tensor: object) -> None:
    """Raises ModelError for a weight that is no plain tensor, such as those of quantised layers that pack theirs."""
    if not isinstance(tensor, Tensor) or tensor.is_quantized or is_traceable_wrapper_subclass(tensor):
        raise ModelError(
            f"the weight '{name}' is {with_article(type(tensor).__name__)} of packed numbers, which a checkpoint does not hold."
        )
