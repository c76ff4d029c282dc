"""Colour conversion: RGB to HSV and back, and luma. Channels are dimension 1."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_RED, _GREEN, _BLUE = (float(np.float32(weight)) for weight in (0.299, 0.587, 0.114))


def to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Converts RGB in [0, 1] to hue, saturation and value, each (N, H, W) in [0, 1]; grey has hue and saturation 0."""
    if compiled.serve(images):
        out = torch.empty(3, len(images), *images.shape[2:], dtype=torch.float64)
        compiled.loops(_LOOPS).to_hsv(compiled.array(images, len(images), 3, -1), compiled.array(out, 3, len(images), -1))
        return out[0], out[1], out[2]
    red, green, blue = images.unbind(1)
    value = images.amax(dim=1)
    spread = value - images.amin(dim=1)
    grey = spread == 0
    divisor = spread.masked_fill(grey, 1.0)
    hue = torch.where(red == value, (green - blue) / divisor, 0.0)
    hue = torch.where(green == value, (blue - red).div_(divisor).add_(2.0), hue)
    hue = torch.where(blue == value, (red - green).div_(divisor).add_(4.0), hue).div_(6.0)
    hue = torch.where(hue < 0, hue + 1.0, hue).masked_fill_(grey, 0.0)
    saturation = spread / value.masked_fill(grey, 1.0)
    return hue, saturation, value


def to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Converts hue, saturation and value, each (N, H, W) in [0, 1], to RGB (N, 3, H, W)."""
    if compiled.serve(hue, saturation, value):
        out = torch.empty(len(hue), 3, *hue.shape[1:], dtype=torch.float64)
        given = (compiled.array(part, len(hue), -1) for part in (hue, saturation, value))
        return compiled.filled(out, compiled.loops(_LOOPS).to_rgb, *given, shape=(len(hue), 3, -1))
    turn = hue * 6.0
    sextant = turn.floor()
    part = turn.sub_(sextant)
    low = value * (1.0 - saturation)
    falling = value * (1.0 - part * saturation)
    rising = value * (1.0 - (1.0 - part) * saturation)
    sextant = sextant.remainder_(6.0)
    middle = torch.where(sextant.remainder(2.0) == 0, rising, falling)
    channels = []
    for start in (0, 4, 2):  # red is the highest in sextants 5 and 0, green in 1 and 2, blue in 3 and 4
        place = (sextant + start).remainder_(6.0)
        highest, lowest = (place == 0) | (place == 5), (place == 2) | (place == 3)
        channels.append(torch.where(highest, value, torch.where(lowest, low, middle)))
    return torch.stack(channels, dim=1)


def luma(images: Tensor) -> Tensor:
    """Luma (N, 1, H, W) of float32 images: 0.299 R + 0.587 G + 0.114 B with float32 weights, rounded as OpenCV's fused steps are.

    The product of G is rounded; R's product and its sum are rounded once, then B's. A product of two float32 numbers is exact in float64.
    """
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    total = green * _GREEN
    for channel, weight in ((red, _RED), (blue, _BLUE)):
        total = channel.double().mul_(weight).add_(total).float()
    return total
