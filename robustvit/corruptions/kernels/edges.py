"""Canny edges, distance transform, histogram equalisation and 3×3 filters of 8-bit images, equal to OpenCV's, rounding included.

Images are (N, H, W) and hold whole levels 0 … 255.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from robustvit.corruptions.kernels.filters import reflect_index
from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.edge_loops"
WEAK_EDGE, STRONG_EDGE = 50, 150
TANGENT_22_5 = 13573  # of 22.5°, in parts of 2**15
_STRAIGHT, _DIAGONAL, _KNIGHT = 1.0, 1.4, 2.1969  # OpenCV's step lengths
CHAMFER_STEPS = (  # down, right, length
    (0, 1, _STRAIGHT), (1, 0, _STRAIGHT), (1, 1, _DIAGONAL), (1, -1, _DIAGONAL),
    (1, 2, _KNIGHT), (1, -2, _KNIGHT), (2, 1, _KNIGHT), (2, -1, _KNIGHT),
)  # fmt: skip
_TURN = (*CHAMFER_STEPS[:2] * 3, *CHAMFER_STEPS[2:])  # straight steps are the shortest, and the most that a distance takes
_MARGIN = 24
_BAND, _ABOVE = 64, 3  # rows that stay in a core's cache; rows of nothing above the first


def canny(levels: Tensor) -> Tensor:
    """Canny edges (1986) as bool: Sobel gradients of L1 norm above 50 after non-maximum suppression, connected to one above 150."""
    if compiled.serve(levels):
        out = torch.zeros(levels.shape, dtype=torch.bool)
        return compiled.filled(out, compiled.loops(_LOOPS).canny, compiled.planes(levels.long()))
    across, down = _sobel(levels.short())
    strength = across.abs() + down.abs()
    thin = _local_maxima(across, down, strength)
    reached = thin & (strength > STRONG_EDGE)
    if levels.device.type == "cpu":
        for plane, strong in zip(thin.numpy(), reached.numpy(), strict=True):
            _keep_connected(plane, strong)
        return thin
    while not torch.equal(reached, thin):
        grown = (max_pool2d(reached.float(), 3, stride=1, padding=1) > 0) & thin
        if torch.equal(grown, reached):
            break
        reached = grown
    return reached


def distance_transform(marks: Tensor, limit: float) -> Tensor:
    """Distance of each pixel to the nearest mark, at most `limit`, float32: the 5×5 chamfer distance (Borgefors 1986).

    A forward pass takes all steps to the right and down, a backward pass those to the left and up; every sum is rounded to float32.
    """
    if compiled.serve(marks):
        return compiled.filled(torch.empty(marks.shape), compiled.loops(_LOOPS).distance_transform, compiled.planes(marks), limit)
    far = torch.where(marks, 0.0, limit).float()
    if far.device.type == "cpu":
        for plane in far.numpy():
            _relax(plane)
        return far
    for sign in (1, -1):
        before = torch.empty_like(far)
        while not torch.equal(before, far):
            before.copy_(far)
            for down, right, length in CHAMFER_STEPS:
                _relax_step(far, sign * down, sign * right, length)
    return far


def equalize_histogram(levels: Tensor) -> Tensor:
    """Histogram equalisation: float32 levels, the darkest of which is 0; a flat image is unchanged."""
    if compiled.serve(levels):
        return compiled.filled(torch.empty(levels.shape), compiled.loops(_LOOPS).equalize_histogram, compiled.planes(levels.long()))
    count = levels[0].numel()
    rows = torch.arange(len(levels), device=levels.device)[:, None] * 256
    places = levels.long().flatten(1) + rows
    histogram = torch.bincount(places.flatten(), minlength=256 * len(levels)).view(-1, 256)
    total = histogram.cumsum(1)
    darkest = histogram.gather(1, (histogram > 0).int().argmax(1, keepdim=True))
    rest = (count - darkest).float()
    scale = torch.full_like(rest, 255.0).div_(rest)  # 255.0 / rest would multiply by a rounded reciprocal
    table = ((total - darkest) * scale).round_().clamp_(0.0, 255.0)
    table = torch.where(rest > 0, table, torch.arange(256.0, device=levels.device))
    return table.flatten()[places].view(levels.shape)


def filter_3x3(values: Tensor, weights: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Correlates images with 3×3 weights in the dtype of the values; borders are mirrored without repeating the edge pixel."""
    height, width = values.shape[-2:]
    rows, columns = (reflect_index(torch.arange(-1, side + 1, device=values.device), side, twice=False) for side in (height, width))
    if compiled.serve(values):
        out, given = torch.empty(values.shape, dtype=values.dtype), torch.tensor(weights, dtype=values.dtype)
        arrays = (compiled.planes(values), given.numpy(), rows.numpy(), columns.numpy())
        return compiled.filled(out, compiled.loops(_LOOPS).filter_3x3, *arrays)
    padded = values.index_select(1, rows).index_select(2, columns)
    total = torch.zeros_like(values)
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            if weight:
                total.add_(padded[:, row : row + height, column : column + width], alpha=weight)
    return total


def _sobel(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives to the right and down; edge pixels are repeated."""
    height, width = levels.shape[-2:]
    rows, columns = (torch.arange(-1, side + 1, device=levels.device).clamp(0, side - 1) for side in (height, width))
    padded = levels.index_select(1, rows).index_select(2, columns)
    tall = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    wide = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return tall[:, :, 2:] - tall[:, :, :-2], wide[:, 2:] - wide[:, :-2]


def _local_maxima(across: Tensor, down: Tensor, strength: Tensor) -> Tensor:
    """Non-maximum suppression: where a strength is a maximum along the gradient; of two equal neighbours along an axis, the first.

    Most pixels are below the weak threshold, and are left out.
    """
    places = (strength > WEAK_EDGE).nonzero(as_tuple=True)
    here, padded = strength[places], pad(strength, (1, 1, 1, 1))

    def beside(down: int, right: int) -> Tensor:
        return padded[places[0], places[1] + (1 + down), places[2] + (1 + right)]

    x, y = across[places].int().abs(), down[places].int().abs() << 15
    level = (here > beside(0, -1)) & (here >= beside(0, 1))
    upright = (here > beside(-1, 0)) & (here >= beside(1, 0))
    falling = (here > beside(-1, -1)) & (here > beside(1, 1))
    rising = (here > beside(-1, 1)) & (here > beside(1, -1))
    slanted = torch.where((across[places] ^ down[places]) < 0, rising, falling)
    maxima = torch.zeros_like(strength, dtype=torch.bool)
    maxima[places] = torch.where(y < x * TANGENT_22_5, level, torch.where(y > x * (TANGENT_22_5 + (1 << 16)), upright, slanted))
    return maxima


def _keep_connected(thin: NDArray[np.bool_], strong: NDArray[np.bool_]) -> None:
    """Clears, in place, those edges of `thin` (H, W) that are connected to no strong one, by eight neighbours each."""
    parts, count = ndimage.label(thin, structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, dtype=bool)
    kept[parts[strong]] = True
    np.take(kept, parts, out=thin)


def _relax(far: NDArray[np.float32]) -> None:
    """Both passes over distances (H, W), in place, a band of rows after the other.

    Rows lie one behind the other, between margins that the steps of one turn cannot cross; a way through a margin is never the shortest.
    """
    height, width = far.shape
    lined = np.empty((_ABOVE + height, width + _MARGIN), np.float32)
    for turned in (far, far[::-1, ::-1]):
        lined.fill(np.inf)
        lined[_ABOVE:, :width] = turned
        for top in range(_ABOVE, len(lined), _BAND):
            _relax_band(lined, top, min(top + _BAND, len(lined)))
        turned[:] = lined[_ABOVE:, :width]


def _relax_band(lined: NDArray[np.float32], top: int, bottom: int) -> None:
    """Repeats all steps to the right and down into some rows until nothing changes; the rows above are final."""
    width = lined.shape[1]
    line, first, before = lined.reshape(-1), top * width, np.empty(0, np.float32)
    here, start = line[first : bottom * width], np.empty((bottom - top) * width, np.float32)
    while not np.array_equal(before, here):
        before = here.copy()
        for down, right, length in _TURN:
            source = first - down * width - right
            np.add(line[source : source + len(start)], np.float32(length), out=start)
            np.minimum(here, start, out=here)
        lined[top:bottom, -_MARGIN:] = np.inf


def _relax_step(far: Tensor, down: int, right: int, length: float) -> None:
    """Lowers the distances `far`, in place, to those reached by one step."""
    height, width = far.shape[-2:]
    start = far[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)] + length
    end = far[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    torch.minimum(end, start, out=end)
