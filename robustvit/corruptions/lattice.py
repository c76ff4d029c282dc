"""Lattices of ImageNet-C̄: Perlin noise, and a checkerboard with squares cut out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_cbar_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels.coordinates import longer, per_image, positions
from robustvit.corruptions.kernels.eight_bit import in_parts, levels, truncated
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_OPACITY = (0.23, 0.26, 0.29, 0.38, 0.44)  # of the noise: the strengths 4.6, 5.2, 5.8, 7.6, 8.8 of ten times a half
_CUT = (0.2, 0.3, 0.4, 0.5, 0.6)  # of the squares of one colour
_KNOTS = 256  # slopes of the lattice before it repeats
_CELLS = 7.0  # cells of the coarsest lattice along the longer side: 32 pixels of 224
_OCTAVES = (1.0, 2.0, 4.0, 8.0, 16.0)
_BOARD = 40  # squares drawn in each direction: four longer sides of the smallest ones
_GREY = 128.0


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def perlin_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """A bright veil with dark creases: five octaves of the absolute value of Perlin's gradient noise.

    The order of the slopes is a uniform permutation; the released generator's shuffle slightly prefers some orders.
    """
    order = draws.at("order").permutation(_KNOTS)
    slopes = draws.at("slopes").integers(_KNOTS, 2, low=-_KNOTS, high=_KNOTS)
    return in_parts(lambda part, *given: _perlin_noise(part, *given, severity=severity), images, order, slopes)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def checkerboard_cutout(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """A turned checkerboard of squares a tenth to a quarter of the side: of those of one colour, 20 … 60 % are grey."""
    angle, size = draws.at("board").uniform(2).unbind(1)
    side = ((0.1 + 0.15 * size) * longer(images)).clamp_(min=1.0)
    board = torch.stack((angle * (2.0 * math.pi), side), dim=1)
    squares = draws.at("squares").uniform(_BOARD, _BOARD)
    return in_parts(lambda part, *given: _checkerboard_cutout(part, *given, severity=severity), images, board, squares)


def _perlin_noise(images: Tensor, order: Tensor, slopes: Tensor, *, severity: Severity) -> Tensor:
    """order: (N, 256) a permutation; slopes: (N, 256, 2) int64, made unit vectors here; one of length 0 stays so."""
    units = slopes.double()
    units = units / units.square().sum(dim=2, keepdim=True).sqrt_().clamp_(min=1.0)
    rows, columns = (at.flatten() * (_CELLS / longer(images)) for at in positions(images))
    total = torch.zeros(len(images), *images.shape[-2:], dtype=torch.float64, device=images.device)
    for octave in _OCTAVES:
        total.add_(_gradient_noise(octave * rows, octave * columns, order, units).abs_().div_(octave))
    veil = total.mul_(0.5).add_(0.5).clamp_(0.0, 1.0)[:, None]
    opacity = _OPACITY[severity - 1]
    dimmed = levels(images).float().mul_(1.0 - opacity)  # in float32, as in the released generator
    return truncated(dimmed + veil.mul_(255.0 * opacity))


def _gradient_noise(rows: Tensor, columns: Tensor, order: Tensor, units: Tensor) -> Tensor:
    """(N, H, W): between knots, the four slopes around blended by 3t² − 2t³. rows (H,), columns (W,) in cells, ≥ 0."""
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[None, :]
    corners = []
    for below in (0, 1):
        for beside in (0, 1):
            knot = _knots(order, top.long() + below, left.long() + beside)
            slope = units.gather(1, knot.flatten(1)[..., None].expand(-1, -1, 2)).view(*knot.shape, 2)
            corners.append((down - below) * slope[..., 0] + (right - beside) * slope[..., 1])
    ease_down, ease_right = (part.square() * (3.0 - 2.0 * part) for part in (down, right))
    near = corners[0] + ease_down * (corners[2] - corners[0])
    far = corners[1] + ease_down * (corners[3] - corners[1])
    return (near + ease_right * (far - near)).mul_(1.5)


def _knots(order: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, H, W): which slope stands at each knot."""
    line = order[:, rows.remainder(_KNOTS)]
    place = (line[:, :, None] + columns).remainder(_KNOTS)
    return order.gather(1, place.flatten(1)).view_as(place)


def _checkerboard_cutout(images: Tensor, board: Tensor, squares: Tensor, *, severity: Severity) -> Tensor:
    """board: (N, 2) the angle in radians and the side in pixels; squares: (N, K, K) uniform in [0, 1).

    Squares are numbered towards zero, so the four around the corner share a number, and negative numbers count from the end.
    """
    rows, columns = positions(images)
    angle, side = per_image(board)
    along = (angle.cos() * rows + angle.sin() * columns) / side
    across = (angle.cos() * columns - angle.sin() * rows) / side
    same = along.remainder(2.0).floor() == across.remainder(2.0).floor()
    count = squares.shape[-1]
    place = along.trunc().long().remainder(count) * count + across.trunc().long().remainder(count)
    cut = squares.flatten(1).gather(1, place.flatten(1)).view_as(place) < _CUT[severity - 1]
    return truncated(torch.where((same & cut)[:, None], _GREY, levels(images)))
