"""Caustic refraction of ImageNet-C̄: the image seen through rippling water."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_cbar.imagenet_cbar_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import filters
from robustvit.corruptions.kernels.coordinates import longer_side, per_image, pixel_positions
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, truncated
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_STRENGTH = (0.235, 0.32, 0.49, 0.66, 0.915)
_LENS = 0.5  # fraction of the longer side, at strength 1: displacement of a ray at unit slope
_LIGHTING = 2.0  # at strength 1: brightness added per unit of slope
_INDEX = 4.0  # of refraction
_STEEP = 1e-3  # where the cosine of the normal's angle is closer than this to one, rays are not refracted
_TURN, _FAR = 6.28318530718, 250.0  # one period of the pattern, and the offset from the origin at which it is evaluated
_FINE = 0.005


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def caustic_refraction(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Rippling water: every pixel is sampled where a caustic pattern refracts the ray to, and lit by the pattern's slopes."""
    time, size = draws.at("water").uniform(2).unbind(1)
    water = torch.stack((0.5 + 1.5 * time, (0.75 + 0.5 * size) * longer_side(images)), dim=1)
    return in_chunks(lambda part, given: _caustic_refraction(part, given, severity), images, water)


def _caustic_refraction(images: Tensor, water: Tensor, severity: Severity) -> Tensor:
    """water: (N, 2), the time and the pattern's period in pixels."""
    light = filters.gaussian_blur(_caustics(images, water)[:, None], (1.0, 1.0), 4.0, "reflect")[:, 0]
    down, across = _slopes(light)
    strength = _STRENGTH[severity - 1]
    reach = _refraction(down.square() + across.square()) * (_LENS * strength * longer_side(images))
    rows, columns = pixel_positions(images)
    row, column = (at + _round_to_thousandths(slope * reach) for at, slope in ((rows, down), (columns, across)))
    refracted = _sample_bilinear(fractions(images), row, column) + ((down - across) * (_LIGHTING * strength))[:, None]
    return truncated(refracted.clamp_(0.0, 1.0).mul_(255.0))


def _caustics(images: Tensor, water: Tensor) -> Tensor:
    """The caustic pattern (N, H, W) float64 in [0, 1], by five steps of domain-warped waves."""
    rows, columns = pixel_positions(images)
    time, size = per_image(water)
    start = [(at / size).remainder(1.0) * _TURN - _FAR for at in (rows, columns)]
    first, second = start
    total = torch.ones(len(images), *images.shape[-2:], dtype=torch.float64, device=images.device)
    for step in range(5):
        t = time * (1.0 - 3.5 / (step + 1))
        first, second = (
            start[0] + (torch.cos(t - first) + torch.sin(t + second)),
            start[1] + (torch.sin(t - second) + torch.cos(t + first)),
        )
        down = start[0] / (torch.sin(first + t) / _FINE)
        across = start[1] / (torch.cos(second + t) / _FINE)
        total.add_(1.0 / (down.square() + across.square()).sqrt_())
    dark = 1.17 - (total / 5.0).pow_(1.4)
    return dark.abs_().pow_(8.0).clamp_(0.0, 1.0)


def _slopes(light: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the vertical and of the horizontal neighbours, zero-padded."""
    padded = torch.nn.functional.pad(light, (1, 1, 1, 1))
    return padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]


def _refraction(steepness: Tensor) -> Tensor:
    """Displacement of a vertical ray, per unit of slope, one unit below a surface of squared slope `steepness`: Snell's law."""
    upright = (steepness + 1.0).rsqrt()
    sine = (1.0 - upright.square()).sqrt_() / _INDEX
    return torch.where(upright >= 1.0 - _STEEP, 0.0, ((1.0 - sine.square()).sqrt_() - upright / _INDEX) * upright)


def _round_to_thousandths(lengths: Tensor) -> Tensor:
    return lengths.mul(1000.0).round_().div_(1000.0)


def _sample_bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Samples (N, C, H, W) float64 images bilinearly at positions (N, H, W); black beyond the edges."""
    height, width = images.shape[-2:]
    top, left = rows.floor(), columns.floor()
    flat = images.flatten(2)
    out = torch.zeros_like(flat)
    for y, down in ((top, 1.0 - (rows - top)), (top + 1.0, rows - top)):
        for x, across in ((left, 1.0 - (columns - left)), (left + 1.0, columns - left)):
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long().flatten(1)[:, None].expand(-1, flat.shape[1], -1)
            out.add_(flat.gather(2, place) * (down * across * inside).flatten(1)[:, None])
    return out.view_as(images)
