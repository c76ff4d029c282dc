"""Perlin noise and checkerboard cutout of ImageNet-C̄."""

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

_OPACITY = (0.23, 0.26, 0.29, 0.38, 0.44)  # of the noise: the strengths 4.6, 5.2, 5.8, 7.6, 8.8 of ten times a half
_CUT = (0.2, 0.3, 0.4, 0.5, 0.6)  # fraction of the squares of one colour
_POINTS = 256  # gradients of the lattice before it repeats
_CELLS = 7.0  # cells of the coarsest lattice along the longer side: 32 of 224 pixels each
_OCTAVES = (1.0, 2.0, 4.0, 8.0, 16.0)
_BOARD = 40  # squares drawn along each axis: the smallest ones then cover four times the longer side
_GREY = 128.0


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def perlin_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Blends the image with turbulence: five octaves of the absolute value of Perlin's gradient noise.

    The order of the gradients is a uniform permutation; the released generator's shuffle is slightly biased.
    """
    order = draws.at("order").permutation(_POINTS)
    slopes = draws.at("slopes").integers(_POINTS, 2, low=-_POINTS, high=_POINTS)
    return in_chunks(lambda part, *given: _perlin_noise(part, *given, severity=severity), images, order, slopes)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def checkerboard_cutout(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Cutout on a rotated checkerboard of squares 1/10 to 1/4 of the longer side: of those of one colour, 20 … 60 % become grey."""
    angle, size = draws.at("board").uniform(2).unbind(1)
    side = ((0.1 + 0.15 * size) * longer_side(images)).clamp_(min=1.0)
    board = torch.stack((angle * (2.0 * math.pi), side), dim=1)
    squares = draws.at("squares").uniform(_BOARD, _BOARD)
    return in_chunks(lambda part, *given: _checkerboard_cutout(part, *given, severity=severity), images, board, squares)


def _perlin_noise(images: Tensor, order: Tensor, slopes: Tensor, *, severity: Severity) -> Tensor:
    """order: (N, 256) a permutation; slopes: (N, 256, 2) int64 gradients, normalised here; those of length 0 stay 0."""
    units = slopes.double()
    units = units / units.square().sum(dim=2, keepdim=True).sqrt_().clamp_(min=1.0)
    rows, columns = (at.flatten() * (_CELLS / longer_side(images)) for at in pixel_positions(images))
    total = torch.zeros(len(images), *images.shape[-2:], dtype=torch.float64, device=images.device)
    for octave in _OCTAVES:
        total.add_(_gradient_noise(octave * rows, octave * columns, order, units).abs_().div_(octave))
    noise = total.mul_(0.5).add_(0.5).clamp_(0.0, 1.0)[:, None]
    opacity = _OPACITY[severity - 1]
    dimmed = levels(images).float().mul_(1.0 - opacity)  # in float32, as in the released generator
    return truncated(dimmed + noise.mul_(255.0 * opacity))


def _gradient_noise(rows: Tensor, columns: Tensor, order: Tensor, units: Tensor) -> Tensor:
    """Gradient noise (N, H, W), with the four surrounding gradients blended by 3t² − 2t³. rows (H,), columns (W,) in cells, ≥ 0."""
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[None, :]
    corners = []
    for below in (0, 1):
        for beside in (0, 1):
            index = _gradient_index(order, top.long() + below, left.long() + beside)
            slope = units.gather(1, index.flatten(1)[..., None].expand(-1, -1, 2)).view(*index.shape, 2)
            corners.append((down - below) * slope[..., 0] + (right - beside) * slope[..., 1])
    ease_down, ease_right = (part.square() * (3.0 - 2.0 * part) for part in (down, right))
    left_edge = corners[0] + ease_down * (corners[2] - corners[0])
    right_edge = corners[1] + ease_down * (corners[3] - corners[1])
    return (left_edge + ease_right * (right_edge - left_edge)).mul_(1.5)


def _gradient_index(order: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, H, W): index of the gradient at each lattice point."""
    line = order[:, rows.remainder(_POINTS)]
    place = (line[:, :, None] + columns).remainder(_POINTS)
    return order.gather(1, place.flatten(1)).view_as(place)


def _checkerboard_cutout(images: Tensor, board: Tensor, squares: Tensor, *, severity: Severity) -> Tensor:
    """board: (N, 2), the angle in radians and the side in pixels; squares: (N, K, K) uniform in [0, 1).

    Square indices are truncated towards zero, so the four around the corner share an index; negative indices count from the end.
    """
    rows, columns = pixel_positions(images)
    angle, side = per_image(board)
    along = (angle.cos() * rows + angle.sin() * columns) / side
    across = (angle.cos() * columns - angle.sin() * rows) / side
    same = along.remainder(2.0).floor() == across.remainder(2.0).floor()
    count = squares.shape[-1]
    place = along.trunc().long().remainder(count) * count + across.trunc().long().remainder(count)
    cut = squares.flatten(1).gather(1, place.flatten(1)).view_as(place) < _CUT[severity - 1]
    return truncated(torch.where((same & cut)[:, None], _GREY, levels(images)))
