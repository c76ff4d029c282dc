"""Adaptive polyphase anchoring and sampling (Ding et al. 2023; Chaman and Dokmanić 2021) before what reads a map in strides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.structure.polyphase import anchors_of_features, anchors_of_images, phase_maps, rolled_to_phase

Sides = tuple[int, int]
_AT_ONCE = 200_000  # numbers, which a processor keeps near: of images of 224 pixels one


class ImageAnchor(nn.Module):
    """Normalised images, each rolled circularly so that its phase of the largest norm comes first; norms are of pixels, see `polyphase`.

    mean, std: of the normalisation, per channel, by which pixels are recovered. A forward pass sets `tied`, (N,) bool: images in which
    several phases have the largest norm.
    """

    counts_ties = True
    tied: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, stride: Sides, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("scale", 255 * std.detach().clone(), persistent=False)
        self.register_buffer("offset", 255 * mean.detach().clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W). Raises ModelError for a size that the stride does not divide."""
        check_divides(images, self.stride)
        with torch.no_grad():
            parts = torch.split(images, max(1, _AT_ONCE // images[0].numel()))
            found = [anchors_of_images(self._levels(part), self.stride) for part in parts]
        self.tied = torch.cat([one.tied for one in found])
        return rolled_to_phase(images, torch.cat([one.phases for one in found]), self.stride)

    def _levels(self, images: Tensor) -> Tensor:
        """Pixels in levels 0 … 255 of normalised images."""
        return (images.to(self.scale.dtype) * self.scale).add_(self.offset)


class FeatureAnchor(nn.Module):
    """Feature maps, each rolled circularly so that its phase of the largest norm comes first. `tied`: as ImageAnchor has it, to rounding.

    layout: `channels`, maps (N, C, H, W); `last`, (N, H, W, C).
    """

    counts_ties = True
    tied: Tensor

    def __init__(self, stride: Sides, last: bool = False) -> None:
        super().__init__()
        self.stride, self.last = stride, last

    def forward(self, features: Tensor) -> Tensor:
        """Of the shape that it is given. Raises ModelError for a size that the stride does not divide."""
        maps = features.permute(0, 3, 1, 2) if self.last else features
        check_divides(maps, self.stride)
        with torch.no_grad():
            found = anchors_of_features(maps, self.stride)
        self.tied = found.tied
        made = rolled_to_phase(maps, found.phases, self.stride)
        return made.permute(0, 2, 3, 1).contiguous() if self.last else made


class AnchoredConvolution(nn.Module):
    """A convolution in strides behind an anchor, and behind it positions, where there are any. `weight`: that of the convolution."""

    whole_grid = True
    """It reads patches in their places, and takes all of them."""

    def __init__(self, anchor: nn.Module, conv: Any, positions: nn.Module | None = None) -> None:
        super().__init__()
        self.anchor, self.conv = anchor, conv
        self.positions = nn.Identity() if positions is None else positions

    @property
    def weight(self) -> Tensor:
        """That of the convolution."""
        weight: Tensor = self.conv.weight
        return weight

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D, h, w)."""
        made: Tensor = self.positions(self.conv(self.anchor(images)))
        return made


class AdaptiveSampling(nn.Module):
    """A patch embedding at every pixel, of which the phase of the largest norm is kept (APS), and behind it positions.

    Images are padded circularly. Phases are those of the embedded map, whose norms are summed in float64. `tied`: as FeatureAnchor has it.
    """

    whole_grid = True
    """It reads patches in their places, and takes all of them."""
    counts_ties = True
    tied: Tensor

    def __init__(self, conv: Any, positions: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.positions = nn.Identity() if positions is None else positions

    @property
    def weight(self) -> Tensor:
        """That of the convolution."""
        weight: Tensor = self.conv.weight
        return weight

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D, h, w). Raises ModelError for a size that patches do not divide."""
        stride: Sides = self.conv.stride
        check_divides(images, stride)
        wide = functional.pad(images, (0, stride[1] - 1, 0, stride[0] - 1), mode="circular")
        dense = functional.conv2d(wide, self.conv.weight, self.conv.bias)
        with torch.no_grad():
            found = anchors_of_features(dense, stride)
        self.tied = found.tied
        sampled = phase_maps(dense, stride)[torch.arange(len(images), device=images.device), found.phases]
        made: Tensor = self.positions(sampled)
        return made


def check_divides(maps: Tensor, stride: Sides) -> None:
    """Raises ModelError for maps (N, C, H, W) whose size a stride does not divide."""
    height, width = maps.shape[2:]
    if height % stride[0] or width % stride[1]:
        raise ModelError(f"anchors at {stride[0]}x{stride[1]} take maps of whole multiples of that; these are {height}x{width}.")
