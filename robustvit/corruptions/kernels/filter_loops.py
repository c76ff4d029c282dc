"""Compiled loops of filters: sums of products in one fixed order, each named after the function that uses it.

Pictures are planes (P, H, W). Lines are gathered first, so that the inner loops run along memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.primitives.compiled import loop

Floats = NDArray[np.float64] | NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@loop
def spread(planes: Floats, rows: Integers, columns: Integers, out: Floats) -> None:
    """Fills the upper left of out (P, h, w)."""
    for plane in range(planes.shape[0]):
        for row in range(rows.size):
            line = planes[plane, rows[row]]
            for column in range(columns.size):
                out[plane, row, column] = line[columns[column]]


@loop
def correlated_down(planes: Doubles, weights: Doubles, rows: Integers, out: Doubles) -> None:
    """Symmetric weights, from the centre outwards, laid down the columns; rows: (H + 2 · radius,) where each padded row comes from."""
    radius, line = len(weights) - 1, np.empty(planes.shape[2])
    for plane in range(planes.shape[0]):
        for row in range(planes.shape[1]):
            centre = planes[plane, row]
            for at in range(line.size):
                line[at] = centre[at] * weights[0]
            for tap in range(radius, 0, -1):
                above, below = planes[plane, rows[row + radius - tap]], planes[plane, rows[row + radius + tap]]
                weight = weights[tap]
                for at in range(line.size):
                    line[at] += (above[at] + below[at]) * weight
            out[plane, row] = line


@loop
def correlated_along(planes: Doubles, weights: Doubles, columns: Integers, out: Doubles) -> None:
    """The same along the rows; columns: (W + 2 · radius,) where each padded column comes from."""
    radius, line, padded = len(weights) - 1, np.empty(planes.shape[2]), np.empty(columns.size)
    for plane in range(planes.shape[0]):
        for row in range(planes.shape[1]):
            for at in range(padded.size):
                padded[at] = planes[plane, row, columns[at]]
            for at in range(line.size):
                line[at] = padded[radius + at] * weights[0]
            for tap in range(radius, 0, -1):
                before, after, weight = padded[radius - tap :], padded[radius + tap :], weights[tap]
                for at in range(line.size):
                    line[at] += (before[at] + after[at]) * weight
            out[plane, row] = line


@loop
def streaked(planes: Doubles, tops: Integers, lefts: Integers, weights: Doubles, out: Doubles) -> None:
    """Each tap's weight times the pixel `tops` rows down and `lefts` columns right of it, edge pixels repeated."""
    height, width = planes.shape[1:]
    start = max(0, -lefts.min())
    padded, line = np.empty((height, start + width + max(0, lefts.max()))), np.empty(width)
    for plane in range(planes.shape[0]):
        for row in range(height):
            for at in range(padded.shape[1]):
                padded[row, at] = planes[plane, row, min(max(at - start, 0), width - 1)]
        for row in range(height):
            line[:] = 0.0
            for tap in range(tops.size):
                window = padded[min(max(row + tops[tap], 0), height - 1), start + lefts[tap] :]
                weight = weights[tap]
                for at in range(width):
                    line[at] += window[at] * weight
            out[plane, row] = line


@loop
def zoomed(  # the two rows or columns around, and their weights: as _Cells has them
    planes: Floats, above: Integers, below: Integers, high: Doubles, low: Doubles,
    before: Integers, after: Integers, near: Doubles, far: Doubles, total: Floats,
) -> None:  # fmt: skip
    """Adds to total (P, h, w) the planes read between rows and then between columns, rounded to its precision."""
    line, layer = np.empty(planes.shape[2]), np.empty(near.size, total.dtype)
    for plane in range(planes.shape[0]):
        for row in range(high.size):
            first, second, upper, lower = planes[plane, above[row]], planes[plane, below[row]], high[row], low[row]
            for at in range(line.size):
                line[at] = np.float64(first[at]) * upper + np.float64(second[at]) * lower
            for at in range(layer.size):
                layer[at] = line[before[at]] * near[at] + line[after[at]] * far[at]
            for at in range(layer.size):
                total[plane, row, at] += layer[at]


@loop
def sampled(planes: Floats, rows: Doubles, columns: Doubles, out: Doubles) -> None:
    """The planes at positions (1, H, W), in pixels: the four pixels around, from the upper left to the lower right; mirrored borders."""
    height, width = planes.shape[1:]
    for row in range(height):
        for column in range(width):
            top, left = np.floor(rows[0, row, column]), np.floor(columns[0, row, column])
            down, right = rows[0, row, column] - top, columns[0, row, column] - left
            y0, y1 = _folded(int(top), height), _folded(int(top) + 1, height)
            x0, x1 = _folded(int(left), width), _folded(int(left) + 1, width)
            for plane in range(planes.shape[0]):
                picture = planes[plane]
                total = np.float64(picture[y0, x0]) * (1.0 - down) * (1.0 - right)
                total += np.float64(picture[y0, x1]) * (1.0 - down) * right
                total += np.float64(picture[y1, x0]) * down * (1.0 - right)
                out[plane, row, column] = total + np.float64(picture[y1, x1]) * down * right


@loop
def _folded(index: int, size: int) -> int:
    folded = index % (2 * size)
    return min(folded, 2 * size - 1 - folded)
