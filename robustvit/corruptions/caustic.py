"""Caustics of ImageNet-C̄: the picture seen through rippling water."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_cbar_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import filters
from robustvit.corruptions.kernels.coordinates import longer, per_image, positions
from robustvit.corruptions.kernels.eight_bit import fractions, in_parts, truncated
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_STRENGTH = (0.235, 0.32, 0.49, 0.66, 0.915)
_LENS = 0.5  # of the longer side, at strength 1: how far a ray of unit slope lands away
_LIGHTING = 2.0  # at strength 1: what a slope of the light adds to the picture
_INDEX = 4.0  # of refraction
_STEEP = 1e-3  # where the cosine of the normal's angle is nearer than this to one, rays go straight on
_TURN, _FAR = 6.28318530718, 250.0  # one period of the pattern, and how far from the origin it is looked at
_FINE = 0.005


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def caustic_refraction(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Rippling water: every pixel is fetched from where a network of light bends the view to, and lit by its slopes."""
    time, size = draws.at("water").uniform(2).unbind(1)
    water = torch.stack((0.5 + 1.5 * time, (0.75 + 0.5 * size) * longer(images)), dim=1)
    return in_parts(lambda part, given: _caustic_refraction(part, given, severity), images, water)


def _caustic_refraction(images: Tensor, water: Tensor, severity: Severity) -> Tensor:
    """water: (N, 2) the time, and the pattern's period in pixels."""
    light = filters.gaussian(_caustics(images, water)[:, None], (1.0, 1.0), 4.0, "reflect")[:, 0]
    down, across = _slopes(light)
    strength = _STRENGTH[severity - 1]
    reach = _bend(down.square() + across.square()) * (_LENS * strength * longer(images))
    rows, columns = positions(images)
    row, column = (at + _to_thousandths(slope * reach) for at, slope in ((rows, down), (columns, across)))
    seen = _read(fractions(images), row, column) + ((down - across) * (_LIGHTING * strength))[:, None]
    return truncated(seen.clamp_(0.0, 1.0).mul_(255.0))


def _caustics(images: Tensor, water: Tensor) -> Tensor:
    """(N, H, W) float64 in [0, 1]: a network of light, by five steps of a wave that moves itself."""
    rows, columns = positions(images)
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
    """Differences of the neighbours below and above, right and left; there is no light beyond the edges."""
    padded = torch.nn.functional.pad(light, (1, 1, 1, 1))
    return padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]


def _bend(steepness: Tensor) -> Tensor:
    """How far a vertical ray lands away, for each unit of slope, a unit below a surface of squared slope `steepness`, all by Snell's law."""
    upright = (steepness + 1.0).rsqrt()
    sine = (1.0 - upright.square()).sqrt_() / _INDEX
    return torch.where(upright >= 1.0 - _STEEP, 0.0, ((1.0 - sine.square()).sqrt_() - upright / _INDEX) * upright)


def _to_thousandths(lengths: Tensor) -> Tensor:
    return lengths.mul(1000.0).round_().div_(1000.0)


def _read(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, C, H, W) float64 read at positions (N, H, W), linearly; beyond the edges it is black."""
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
