"""What is known of a model: its identity, the fingerprint of its weights, and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.spec.spec import Spec


@dataclass(frozen=True)
class Card:
    """What is known of a model. `identity` and `fingerprint` name it in a Cell; the rest is told to readers.

    identity: architecture and arguments, without labels or paths. fingerprint: of its weights (`fingerprint`). weights: `pretrained`,
    `checkpoint`, `bundled`, `given` or `random`.
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
    notes: dict[str, Any] = field(default_factory=dict)


def fingerprint(module: nn.Module) -> str:
    """A name for a model's weights: 20 hex digits of sha256 over every tensor's name, dtype, shape and bytes, in name order.

    Weights that a quantised layer packs away count by what they stand for.
    """
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        for tensor in _tensors(value):
            array = tensor.detach().cpu().contiguous()
            total.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            total.update((array.dequantize() if array.is_quantized else array).reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:20]


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors that an entry of a state holds."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
