"""Sparkles of ImageNet-C̄: stars of light on the image, and the inverse, where the image shows through a star."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_cbar.imagenet_cbar_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels.coordinates import longer_side, per_image, pixel_positions
from robustvit.corruptions.kernels.eight_bit import in_chunks, levels, truncated
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_RADIUS = (0.01, 0.02, 0.03, 0.05, 0.06)  # fractions of the longer side: the strengths 1, 2, 3, 5, 6 of ten times 0.1
_DECAY = (0.13, 0.26, 0.52, 1.17, 1.3)  # exponent of the inverse-square falloff: 1, 2, 4, 9, 10 of ten times 65 / 50
_STARS = 5
_FEWEST, _MOST = 50, 199  # rays of a star
_UNEVEN = 0.25  # standard deviation of the rays' lengths, in radii
_CENTRE = 1e-4  # squared pixels added to the squared distance, so that the light is finite at the centre


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def sparkles(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Adds five white stars of 50 to 199 uneven rays at random positions."""
    height, width = images.shape[-2:]
    unit = draws.at("centres").uniform(_STARS, 2)
    centres = unit * torch.tensor([height, width], device=unit.device)
    rays = draws.at("rays").integers(_STARS, low=_FEWEST, high=_MOST + 1)
    uneven = draws.at("lengths").normal(_STARS, _MOST)
    return in_chunks(lambda part, *given: _sparkles(part, *given, severity=severity), images, centres, rays, uneven)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def inverse_sparkles(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """White light, through which the image shows along 50 to 199 uneven rays from near its centre."""
    height, width = images.shape[-2:]
    unit = draws.at("centre").uniform(2, low=0.25, high=0.75)
    centres = unit * torch.tensor([height, width], device=unit.device)
    rays = draws.at("rays").integers(low=_FEWEST, high=_MOST + 1)
    uneven = draws.at("lengths").normal(_MOST)
    return in_chunks(lambda part, *given: _inverse_sparkles(part, *given, severity=severity), images, centres, rays, uneven)


def _sparkles(images: Tensor, centres: Tensor, rays: Tensor, uneven: Tensor, *, severity: Severity) -> Tensor:
    """centres: (N, stars, 2) row and column; rays: (N, stars) int64; uneven: (N, stars, rays at most) standard normal."""
    radius = _RADIUS[severity - 1] * longer_side(images)
    lengths = (radius + _UNEVEN * radius * uneven.double()).clamp_(min=1.0)
    lit = levels(images)
    for star in range(rays.shape[1]):
        light = _light(images, centres[:, star], rays[:, star], lengths[:, star], decay=1.0)[:, None]
        lit = lit.float().double()  # the released generator rounds the image to float32 before each star
        lit = lit + light * (255.0 - lit)
    return truncated(lit)


def _inverse_sparkles(images: Tensor, centres: Tensor, rays: Tensor, uneven: Tensor, *, severity: Severity) -> Tensor:
    """centres: (N, 2) row and column; rays: (N,) int64; uneven: (N, rays at most) standard normal."""
    radius = 0.25 * longer_side(images)
    lengths = radius + _UNEVEN * radius * uneven.double()
    visibility = _light(images, centres, rays, lengths, decay=_DECAY[severity - 1])[:, None]
    return truncated(255.0 + visibility * (levels(images) - 255.0))


def _light(images: Tensor, centres: Tensor, rays: Tensor, lengths: Tensor, *, decay: float) -> Tensor:
    """Intensity of a star (N, H, W) in [0, 1]: 1 near its centre, decreasing with the distance; brightest midway between two rays."""
    rows, columns = pixel_positions(images)
    row, column = per_image(centres)
    below, right = rows - row, columns - column
    count = rays[:, None, None]
    turn = torch.atan2(right, below).add_(math.pi).div_(2.0 * math.pi).mul_(count)
    ray = turn.floor()
    between = turn - ray
    first, second = (_gather(lengths, (ray.long() + step).remainder(count)) for step in (0, 1))
    length = first + between * (second - first)
    glow = (length.square() / (below.square() + right.square() + _CENTRE)).pow_(decay)
    return (1.0 - (between - 0.5).square()).mul_(glow).clamp_(0.0, 1.0)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Gathers values (N, K) at index (N, H, W)."""
    return values.gather(1, index.flatten(1)).view_as(index)
