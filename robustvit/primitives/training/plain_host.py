"""The modules that defenses take which change the blocks of a vision transformer."""

from __future__ import annotations

from torch import nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.surgery.hosts import plain_vit, why_no_plain_vit


def plain_host(module: nn.Module, defense: str) -> nn.Module:
    """The very module. Raises HostRefused, in a sentence that names the defense, unless it is timm's plain vision transformer."""
    why = why_no_plain_vit(module) if plain_vit(module) is module else f"is {with_article(type(module).__name__)} around one"
    if why:
        raise HostRefused(f"'{defense}' takes timm's plain vision transformers, and the model to train is none: it {why}.")
    return module
