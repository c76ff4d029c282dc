"""Sine waves of ImageNet-C̄: stripes of one frequency, concentric rings, and plasma noise."""

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

_STRIPES = (19.6, 29.4, 39.2, 88.2, 98.0)  # amplitude in levels: the strengths 1, 1.5, 2, 4.5, 5 of ten times 196
_RINGS = (38.4, 64.0, 102.4, 115.2, 128.0)  # peak-to-peak amplitude in levels: 3, 5, 8, 9, 10 of ten times 128
_PLASMA = (30.4, 44.8, 54.4, 59.2, 64.0)  # levels: 4.75, 7, 8.5, 9.25, 10 of ten times 64
_FOLDS = 6  # the largest number of folds of a plasma


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def single_frequency_greyscale(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Adds grey stripes of one random frequency, up to one cycle per two pixels, and one random direction."""
    first, second, swap, phase = draws.at("wave").uniform(4).unbind(1)
    fast = (2.0 * first - 1.0) * math.pi
    slow = (2.0 * second - 1.0) * fast.abs()
    swapped = swap < 0.5
    waves = torch.stack((torch.where(swapped, slow, fast), torch.where(swapped, fast, slow), phase * (2.0 * math.pi)), dim=1)
    return in_chunks(lambda part, given: _stripes(part, given, severity), images, waves)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def cocentric_sine_waves(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Adds rings with wavy edges around a random point, each from dark to bright. (The spelling is that of the released name.)"""
    height, width = images.shape[-2:]
    tenth = longer_side(images) / 10.0
    unit = draws.at("rings").uniform(5)
    most = torch.tensor([width, height, 10.0, tenth, tenth], device=unit.device)
    unit[:, 4] = 1.0 - unit[:, 4]  # rings of width 0 are excluded
    return in_chunks(lambda part, given: _rings(part, given, severity), images, unit * most)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def plasma_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Adds coloured plasma to the darkened image: sines of coordinates that were warped by sines four to six times."""
    time, sharpness, scale = draws.at("plasma").uniform(3).unbind(1)
    plasma = torch.stack((time * (6.0 * math.pi), 0.5 + 0.5 * sharpness, (0.075 + 0.125 * scale) * longer_side(images)), dim=1)
    folds = draws.at("folds").integers(low=4, high=_FOLDS + 1)
    return in_chunks(lambda part, *given: _plasma(part, *given, severity=severity), images, plasma, folds)


def _stripes(images: Tensor, waves: Tensor, severity: Severity) -> Tensor:
    """waves: (N, 3), radians per pixel to the right and down, and the phase in the corner."""
    rows, columns = pixel_positions(images)
    across, down, phase = per_image(waves)
    wave = (columns * across + rows * down + phase).sin_()
    return truncated(levels(images).add_(wave.mul_(_STRIPES[severity - 1])[:, None]))


def _rings(images: Tensor, rings: Tensor, severity: Severity) -> Tensor:
    """rings: (N, 5), the centre's column and row, undulations per turn, their amplitude and the ring's width in pixels."""
    rows, columns = pixel_positions(images)
    column, row, wobbles, height, width = per_image(rings)
    right, below = columns - column, rows - row
    wobble = torch.atan2(right, below).mul_(wobbles).sin_().mul_(height)
    distance = (right.square() + below.square()).sqrt_().add_(wobble)
    wave = distance.remainder(width).div_(width).sub_(0.5)
    return truncated(levels(images).add_(wave.mul_(_RINGS[severity - 1])[:, None]))


def _plasma(images: Tensor, plasma: Tensor, folds: Tensor, *, severity: Severity) -> Tensor:
    """plasma: (N, 3), the time, the sharpness and the scale in pixels; folds: (N,) int64."""
    rows, columns = pixel_positions(images)
    time, sharpness, scale = per_image(plasma)
    x, y = columns / scale, rows / scale
    pitch, slowness, divisor = 1.0, 1.0, torch.ones_like(sharpness)
    for fold in range(_FOLDS):
        down = (y * pitch + time / slowness).cos_().div_(divisor)
        across = (x * pitch + time / slowness).sin_().div_(divisor)
        active = (fold < folds)[:, None, None]
        x = torch.where(active, x + (down - 0.3 * across), x)
        y = torch.where(active, y + (across + 0.3 * down), y)
        pitch, slowness, divisor = pitch * 1.93, slowness * 1.15, divisor * (2.25 - sharpness)
    colours = torch.stack(((x - time).sin_(), (x + y).add_(time.sin()).mul_(0.5).sin_(), (y + time).sin_()), dim=1)
    strength = _PLASMA[severity - 1]
    return truncated(levels(images).mul_(1.0 - strength / 255.0).add_(colours.mul_(strength)))
