"""The side of a model's patches, in which suites may give sizes."""

from __future__ import annotations

from torch import nn

_OTHERS = 14  # patches on a side of models without tokens of one size: 16 px of 224


def patch_unit(module: nn.Module, side: int) -> int:
    """In pixels: of a plain transformer's tokens, where it is square; of other models, as convolutional or hierarchical ones, side / 14."""
    size = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if isinstance(size, int):
        size = (size, size)
    square = isinstance(size, tuple) and len(size) == 2 and size[0] == size[1]
    return int(size[0]) if square and hasattr(module, "blocks") else max(1, round(side / _OTHERS))  # type: ignore[index]
