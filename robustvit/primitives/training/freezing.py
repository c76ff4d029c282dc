"""Which parameters of a module are trained: those that ask for a gradient after a defense prepared it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.surgery.layer_roles import head_layers


def train_only(module: nn.Module, parts: Iterable[nn.Module]) -> nn.Module:
    """Freezes every parameter but those of these parts of the module, in place; returns the module."""
    module.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    return module


def trained_heads(module: nn.Module, defense: str) -> list[nn.Module]:
    """The heads of a module. Raises HostRefused, in a sentence that names the defense, where it has none."""
    found = [one.layer for one in head_layers(module)]
    if not found:
        raise HostRefused(f"'{defense}' trains the head, and the model to train has no linear layer that makes its logits; add --new-head.")
    return found


def still_frozen(module: nn.Module) -> None:
    """Puts batch normalisation whose parameters are all frozen into evaluation mode, so that its running statistics stay, too."""
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and own and not any(one.requires_grad for one in own):
            part.eval()
