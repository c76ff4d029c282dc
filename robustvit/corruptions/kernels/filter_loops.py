"""Compiled loops of `filters` and `sampling`: sums of products in one fixed order.

Images are planes (P, H, W). Rows are gathered first, so that the inner loops run over contiguous memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.primitives.compiled import loop

Floats = NDArray[np.float64] | NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@loop
def correlate_columns(planes: Doubles, weights: Doubles, rows: Integers, out: Doubles) -> None:
    """Correlates the columns with symmetric weights, given from the centre outwards; rows: (H + 2 · radius,) source of each padded row."""
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
def correlate_rows(planes: Doubles, weights: Doubles, columns: Integers, out: Doubles) -> None:
    """Correlates the rows in the same way; columns: (W + 2 · radius,) source of each padded column."""
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
def motion_blur(planes: Doubles, tops: Integers, lefts: Integers, weights: Doubles, out: Doubles) -> None:
    """Sums, over the taps, the weight times the pixel `tops` rows down and `lefts` columns to the right; edge pixels are repeated."""
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
def add_zoomed(  # the two source rows or columns and their weights, as in sampling._Cells
    planes: Floats, above: Integers, below: Integers, high: Doubles, low: Doubles,
    before: Integers, after: Integers, near: Doubles, far: Doubles, total: Floats,
) -> None:  # fmt: skip
    """Adds the planes, interpolated between rows and then between columns, to total (P, h, w), rounded to its precision."""
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
def sample_bilinear(planes: Floats, rows: Doubles, columns: Doubles, out: Doubles) -> None:
    """Samples the planes bilinearly at positions (1, H, W), in pixels; neighbours are summed in reading order, borders mirrored."""
    height, width = planes.shape[1:]
    for row in range(height):
        for column in range(width):
            top, left = np.floor(rows[0, row, column]), np.floor(columns[0, row, column])
            down, right = rows[0, row, column] - top, columns[0, row, column] - left
            y0, y1 = _reflect_index(int(top), height), _reflect_index(int(top) + 1, height)
            x0, x1 = _reflect_index(int(left), width), _reflect_index(int(left) + 1, width)
            for plane in range(planes.shape[0]):
                source = planes[plane]
                total = np.float64(source[y0, x0]) * (1.0 - down) * (1.0 - right)
                total += np.float64(source[y0, x1]) * (1.0 - down) * right
                total += np.float64(source[y1, x0]) * down * (1.0 - right)
                out[plane, row, column] = total + np.float64(source[y1, x1]) * down * right


@loop
def _reflect_index(index: int, size: int) -> int:
    folded = index % (2 * size)
    return min(folded, 2 * size - 1 - folded)
