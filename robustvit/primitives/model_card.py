"""Model cards, and the fingerprint of a model's weights."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from robustvit.errors import BadParameter
from robustvit.spec.spec import Spec

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters that hide or move what tables print


@dataclass(frozen=True)
class Card:
    """The metadata of a model. `identity` and `fingerprint` identify it in a Cell; the rest is for readers.

    identity: architecture and arguments, without labels or paths. fingerprint: of its weights (`fingerprint`). weights: `pretrained`,
    `checkpoint`, `bundled`, `given` or `random`. classes: the name or wnid of each logit, where they are known; data that names its
    classes too is matched by them. origin: the address of the code or the repository that a file of its weights needs to be loaded; empty
    where a file names the architecture itself. transforms: what was done to it since; identity and fingerprint are still those of the model
    before. headless: its outputs are features, no logits. backbone: the address and the fingerprint of the model that its training began
    from. Raises BadParameter for a label that is no text, is blank, or has control characters.
    """

    label: str
    identity: Spec
    fingerprint: str
    weights: str
    tag: str = ""
    source: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    parameters: int = 0
    classes: tuple[str, ...] = ()
    origin: str = ""
    transforms: tuple[Spec, ...] = ()
    headless: bool = False
    backbone: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        label: object = self.label
        if not isinstance(label, str) or not label.strip() or any(unicodedata.category(char) in _UNSEEN for char in label):
            raise BadParameter(f"a model's name is {label!a}; it takes text of visible characters, which tables show.")


def fingerprint(module: nn.Module) -> str:
    """Identifies a model's weights: 20 hex digits of sha256 over every tensor's name, dtype, shape and bytes, in name order.

    Packed weights of a quantised layer count by their dequantised values, and tensors that wrap others (torchao's) by those and by all
    that they wrap.
    """
    return tensors_digest(module.state_dict())


def tensors_digest(named: Mapping[str, Any]) -> str:
    """As `fingerprint`, of tensors by their names."""
    total = hashlib.sha256()
    for name, value in sorted(named.items()):
        for tensor in _tensors(value):
            array = tensor.detach().cpu().contiguous()
            total.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            total.update((array.dequantize() if array.is_quantized else array).reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:20]


def _tensors(value: Any) -> Iterator[Tensor]:
    """The plain tensors in an entry of a state dict."""
    if isinstance(value, Tensor) and is_traceable_wrapper_subclass(value):
        inner, _ = value.__tensor_flatten__()
        yield from (part for name in inner for part in _tensors(getattr(value, name)))
        yield from [value.dequantize()] if type(value).dequantize is not Tensor.dequantize else []
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
