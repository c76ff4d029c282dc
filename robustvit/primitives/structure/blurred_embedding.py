"""A patch embedding behind a binomial low-pass filter."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.surgery.hosts import plain_vit

Border: TypeAlias = Literal["reflect", "circular"]


def binomial(size: int) -> Tensor:
    """(size,) float64: binomial coefficients divided by their sum: [1, 2, 1]/4 for 3, [1, 3, 3, 1]/8 for 4."""
    taps: Tensor = torch.tensor([math.comb(size - 1, place) for place in range(size)], dtype=torch.float64) / 2 ** (size - 1)
    return taps


def gain_at_nyquist(size: int, patch: int) -> float:
    """The factor by which a binomial filter changes half a period a patch, the highest frequency of a token grid: cos(π/2p)^(size − 1)."""
    return math.cos(math.pi / (2 * patch)) ** (size - 1)


def half_gain_size(patch: int) -> int:
    """The size of the binomial filter whose gain at the token grid's highest frequency is nearest to one half; 1 for patches of a pixel."""
    return 1 if patch == 1 else 1 + round(math.log(0.5) / math.log(math.cos(math.pi / (2 * patch))))


class BlurredConvolution(nn.Module):
    """A convolution of an image that was blurred along rows and columns, each channel alone, and padded so that its size stays.

    For filters and convolutions are linear, it is the convolution at every pixel whose outputs are blurred, and then read in strides; and
    one convolution with a wider kernel. A filter of an even size moves the image by half a pixel. sizes: taps down and across.
    """

    down: Tensor
    across: Tensor

    def __init__(self, conv: Any, sizes: tuple[int, int], border: Border) -> None:
        super().__init__()
        self.conv, self.sizes, self.border = conv, sizes, border
        for name, size in zip(("down", "across"), sizes, strict=True):
            self.register_buffer(name, binomial(size).to(conv.weight), persistent=False)

    @property
    def weight(self) -> Tensor:
        """That of the convolution."""
        weight: Tensor = self.conv.weight
        return weight

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D, h, w)."""
        made: Tensor = self.conv(self.blur(images))
        return made

    def blur(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        rows, columns = self.sizes
        edges = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
        wide = functional.pad(images, edges, mode=self.border).flatten(0, 1)[:, None]
        blurred = functional.conv2d(wide.to(self.down.dtype), self.down.view(1, 1, -1, 1))
        return functional.conv2d(blurred, self.across.view(1, 1, 1, -1)).view(images.shape)


def blur_embedding(module: nn.Module, size: int | None, images: tuple[int, int], border: Border) -> nn.Module:
    """Puts a binomial filter before the patch embedding of timm's plain vision transformer, in place; returns the module.

    size: taps; 1 does nothing, None is that of half a gain along each side. images: height and width. Raises HostRefused for an embedding
    that is no convolution, and where the padding is as large as the image.
    """
    embed: Any = plain_vit(module).patch_embed
    if size == 1:
        return module
    if type(embed.proj) is not nn.Conv2d:
        raise HostRefused(f"its patch embedding is {with_article(type(embed.proj).__name__)}, and no plain convolution.")
    sizes = tuple(half_gain_size(side) if size is None else size for side in embed.proj.stride)
    if any(taps // 2 >= side for taps, side in zip(sizes, images, strict=True)):
        raise HostRefused(f"a filter of {sizes[0]}x{sizes[1]} taps is too wide for images of {images[0]}x{images[1]} pixels.")
    if max(sizes) > 1:
        embed.proj = BlurredConvolution(embed.proj, sizes, border)  # type: ignore[arg-type]
    return module
