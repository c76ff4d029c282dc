"""Compiled loops over 8-bit images (N, H, W), each equal to the torch code of the function of the same name in `edges`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.corruptions.kernels.edges import CHAMFER_STEPS, STRONG_EDGE, TANGENT_22_5, WEAK_EDGE
from robustvit.primitives.compiled import loop

Floats = NDArray[np.float64] | NDArray[np.float32]
Singles = NDArray[np.float32]
Integers = NDArray[np.int64]
Marks = NDArray[np.bool_]

_REACH = 2  # pixels: the longest step along one axis


@loop
def canny(levels: Integers, out: Marks) -> None:
    """out (False on entry): the strong local maxima, and the weak ones connected to them (hysteresis)."""
    count, height, width = out.shape
    waiting = np.empty((height * width, 2), np.int64)
    for image in range(count):
        maxima = _local_maxima(levels[image])
        for row in range(height):
            for column in range(width):
                if maxima[row, column] <= STRONG_EDGE or out[image, row, column]:
                    continue
                out[image, row, column], waiting[0], left = True, (row, column), 1
                while left:
                    left -= 1
                    middle_row, middle_column = waiting[left]
                    for near in range(max(0, middle_row - 1), min(height, middle_row + 2)):
                        for beside in range(max(0, middle_column - 1), min(width, middle_column + 2)):
                            if maxima[near, beside] and not out[image, near, beside]:
                                out[image, near, beside], waiting[left] = True, (near, beside)
                                left += 1


@loop
def _local_maxima(levels: Integers) -> Integers:
    """L1 norm of the Sobel gradient where it exceeds the weak threshold and is a maximum along the gradient, elsewhere 0."""
    height, width = levels.shape
    across, down, strength = np.empty_like(levels), np.empty_like(levels), np.zeros((height + 2, width + 2), np.int64)
    for row in range(height):
        above, here, below = levels[max(row - 1, 0)], levels[row], levels[min(row + 1, height - 1)]
        for column in range(width):
            before, after = max(column - 1, 0), min(column + 1, width - 1)
            right, left = above[after] + 2 * here[after] + below[after], above[before] + 2 * here[before] + below[before]
            across[row, column] = right - left
            down[row, column] = (below[before] + 2 * below[column] + below[after]) - (above[before] + 2 * above[column] + above[after])
            strength[row + 1, column + 1] = abs(across[row, column]) + abs(down[row, column])
    maxima = np.zeros_like(levels)
    for row in range(height):
        for column in range(width):
            here = strength[row + 1, column + 1]
            if here > WEAK_EDGE and _is_local_maximum(across[row, column], down[row, column], strength[row : row + 3, column : column + 3]):
                maxima[row, column] = here
    return maxima


@loop
def _is_local_maximum(across: int, down: int, around: Integers) -> bool:
    """Whether the centre of the strengths `around` (3, 3) is a maximum along its gradient."""
    here, x, y = around[1, 1], abs(across), abs(down) << 15
    if y < x * TANGENT_22_5:
        return bool(here > around[1, 0] and here >= around[1, 2])
    if y > x * (TANGENT_22_5 + (1 << 16)):
        return bool(here > around[0, 1] and here >= around[2, 1])
    if (across ^ down) < 0:
        return bool(here > around[0, 2] and here > around[2, 0])
    return bool(here > around[0, 0] and here > around[2, 2])


@loop
def distance_transform(marks: Marks, limit: float, out: Singles) -> None:
    """A pass of steps to the right and down, then the same pass on the image rotated by 180°."""
    count, height, width = marks.shape
    far = np.full((height + 2 * _REACH, width + 2 * _REACH), np.inf, np.float32)
    for image in range(count):
        inside = far[_REACH : _REACH + height, _REACH : _REACH + width]
        for row in range(height):
            for column in range(width):
                inside[row, column] = 0.0 if marks[image, row, column] else limit
        _relax(far)
        turned = far[::-1, ::-1].copy()
        _relax(turned)
        out[image] = turned[::-1, ::-1][_REACH : _REACH + height, _REACH : _REACH + width]


@loop
def _relax(far: Singles) -> None:
    """Lowers every distance to those reached by steps to the right and down: from the rows above first, then along the row."""
    height, width = far.shape[0] - 2 * _REACH, far.shape[1] - 2 * _REACH
    for row in range(_REACH, _REACH + height):
        line = far[row, _REACH : _REACH + width]
        for down, right, length in CHAMFER_STEPS:
            if down:
                start, step = far[row - down, _REACH - right :], np.float32(length)
                for at in range(width):
                    line[at] = min(line[at], start[at] + step)
        for down, right, length in CHAMFER_STEPS:
            if not down:
                for at in range(_REACH, _REACH + width):
                    far[row, at] = min(far[row, at], far[row, at - right] + np.float32(length))


@loop
def equalize_histogram(levels: Integers, out: Singles) -> None:
    """out: the equalised levels; the table is computed in float32 and rounded half to even."""
    for image in range(len(levels)):
        total, flat = np.zeros(256, np.int64), levels[image].ravel()
        for level in flat:
            total[level] += 1
        darkest = total[np.nonzero(total)[0][0]]
        rest = flat.size - darkest
        scale = np.float32(255.0) / np.float32(rest)
        total = np.cumsum(total)
        table = np.empty(256, np.float32)
        for level in range(256):
            stretched = np.float32(np.rint(np.float32(total[level] - darkest) * scale))
            table[level] = min(max(stretched, np.float32(0.0)), np.float32(255.0)) if rest else level
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                out[image, row, column] = table[levels[image, row, column]]


@loop
def filter_3x3(values: Floats, weights: Floats, rows: Integers, columns: Integers, out: Floats) -> None:
    """out: the values correlated with 3×3 weights of their dtype; rows, columns: source of each padded row and column."""
    padded, line = np.empty((3, columns.size), values.dtype), np.empty(values.shape[2], values.dtype)
    for image in range(values.shape[0]):
        for row in range(values.shape[1]):
            line[:] = 0.0
            for near in range(3):
                for at in range(columns.size):
                    padded[near, at] = values[image, rows[row + near], columns[at]]
                for beside in range(3):
                    weight, shifted = weights[near, beside], padded[near, beside:]
                    if weight:
                        for at in range(line.size):
                            line[at] += shifted[at] * weight
            out[image, row] = line
