"""A patch embedding whose patches overlap: a kernel wider than its stride."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.surgery.hosts import plain_vit


def overlap_patches(module: nn.Module, overlap: int) -> nn.Module:
    """Widens the patches of timm's plain vision transformer by so many pixels on each side, in place; returns the module.

    The kernel keeps its weights in its middle and has zeros around them, and images are padded with zeros after normalisation: tokens are
    as many as before, and logits the same until the border is trained. Raises HostRefused where the embedding is no plain convolution, or
    its patches overlap already.
    """
    embedding: Any = plain_vit(module).patch_embed
    old = embedding.proj
    if type(old) is not nn.Conv2d or old.kernel_size != old.stride or any(old.padding):
        raise HostRefused("its patch embedding is no convolution of patches side by side.")
    if overlap:
        high, wide = (side + 2 * overlap for side in old.kernel_size)
        stride: Any = old.stride
        made = nn.Conv2d(old.in_channels, old.out_channels, (high, wide), stride, overlap, bias=old.bias is not None).to(old.weight)
        with torch.no_grad():
            made.weight.zero_()
            made.weight[:, :, overlap:-overlap, overlap:-overlap] = old.weight
        if old.bias is not None:
            made.bias = old.bias
        embedding.proj = made
    return module
