"""Compiled loops over pixels, each equal to the torch code of the function of the same name that calls it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.corruptions.kernels.pillow_resize import BoxTables
from robustvit.primitives.compiled import loop

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

_WHITE = np.float32(255.0)
_BITS = 22  # fixed-point precision of Pillow's resampling weights
_HALF = 1 << (_BITS - 1)


@loop
def levels(images: Singles, divisor: float, near: float, out: Doubles) -> None:
    """out: 255 · image, rounded where it is within `near` of a whole number, divided by `divisor`. Both flat."""
    for at in range(images.size):
        exact = np.float64(images[at]) * 255.0
        whole = np.floor(exact + 0.5)
        out[at] = (whole if abs(exact - whole) < near else exact) / divisor


@loop
def truncated(values: Doubles, out: Singles) -> None:
    """out: the values (any float dtype) clipped to [0, 255], truncated to whole numbers, divided by 255. Both flat; NaN is kept."""
    for at in range(values.size):
        value = 0.0 if values[at] < 0.0 else values[at]
        out[at] = np.float32(np.floor(255.0 if value > 255.0 else value)) / _WHITE


@loop
def glass_sources(offsets: Integers, height: int, width: int, out: Integers) -> None:
    """out: (N, H · W) index of the pixel whose value each pixel holds after all copies, done one after another.

    offsets: (N, passes, rows, columns, 2), right and down, for pixels from the last row's last to the first's first.
    """
    count, passes, rows, columns, _ = offsets.shape
    margin = (height - rows) // 2
    for image in range(count):
        holds = out[image]
        for at in range(height * width):
            holds[at] = at
        for turn in range(passes):
            for row in range(rows):
                for column in range(columns):
                    right, down = offsets[image, turn, row, column]
                    at = (height - margin - row) * width + width - margin - column
                    holds[at] = holds[at + down * width + right]


@loop
def counts(levels: Doubles, words: Integers, guide: NDArray[np.int16], bits: int, thresholds: Integers, width: int, out: Integers) -> None:
    """out: number of a level's thresholds that are at most the word: from the guide, or, where that is ~n, by a search from n. All flat."""
    for at in range(levels.size):
        level = np.int64(levels[at])
        count = np.int64(guide[(level << bits) | (words[at] >> (32 - bits))])
        if count < 0:
            count, own = ~count, (level << 33) + words[at]
            while count < width and thresholds[level * width + count] <= own:
                count += 1
        out[at] = count


@loop
def to_hsv(images: Doubles, out: Doubles) -> None:
    """out: (3, N, P) hue, saturation and value of RGB (N, 3, P)."""
    for image in range(images.shape[0]):
        for at in range(images.shape[2]):
            red, green, blue = images[image, 0, at], images[image, 1, at], images[image, 2, at]
            value = max(red, green, blue)
            spread = value - min(red, green, blue)
            rise = blue - red if green == value else green - blue
            rise = red - green if blue == value else rise
            start = 4.0 if blue == value else (2.0 if green == value else 0.0)
            hue = (rise / (spread if spread != 0.0 else 1.0) + start) / 6.0
            hue = hue + 1.0 if hue < 0.0 else hue
            out[0, image, at] = hue if spread != 0.0 else 0.0
            out[1, image, at] = spread / (value if spread != 0.0 else 1.0)
            out[2, image, at] = value


@loop
def to_rgb(hues: Doubles, saturations: Doubles, values: Doubles, out: Doubles) -> None:
    """out: RGB (N, 3, P) of hue, saturation and value, each (N, P)."""
    for image in range(out.shape[0]):
        for at in range(out.shape[2]):
            turn, saturation, value = hues[image, at] * 6.0, saturations[image, at], values[image, at]
            sextant = np.floor(turn)
            part = turn - sextant
            low, falling = value * (1.0 - saturation), value * (1.0 - part * saturation)
            rising = value * (1.0 - (1.0 - part) * saturation)
            sextant = 0.0 if sextant == 6.0 else sextant
            middle = rising if sextant == 0.0 or sextant == 2.0 or sextant == 4.0 else falling
            red = low if sextant == 2.0 or sextant == 3.0 else middle
            green = low if sextant == 4.0 or sextant == 5.0 else middle
            blue = low if sextant == 0.0 or sextant == 1.0 else middle
            out[image, 0, at] = value if sextant == 0.0 or sextant == 5.0 else red
            out[image, 1, at] = value if sextant == 1.0 or sextant == 2.0 else green
            out[image, 2, at] = value if sextant == 3.0 or sextant == 4.0 else blue


@loop
def pixelate(images: Singles, across: BoxTables, along: BoxTables, out: Singles) -> None:
    """out: planes (P, H, W) shrunk along the rows and then along the columns, rounded after each, and enlarged by repetition.

    across, along: for the columns and for the rows.
    """
    height, width, columns = images.shape[1], images.shape[2], across.firsts.size
    line, narrow, total = np.empty(width, np.int32), np.empty((height, columns), np.int32), np.empty(columns, np.int32)
    small = np.empty(columns, np.float32)
    for plane in range(len(images)):
        for row in range(height):
            for at in range(width):
                line[at] = np.int32(np.rint(images[plane, row, at] * _WHITE))
            total[:] = _HALF
            for tap in range(len(across.weights)):
                weights, first = across.weights[tap], across.firsts
                for at in range(columns):
                    total[at] += weights[at] * line[first[at] + tap]
            for at in range(columns):
                narrow[row, at] = total[at] >> _BITS
        for row in range(height):
            place = along.places[row]
            if row and place == along.places[row - 1]:
                out[plane, row] = out[plane, row - 1]
                continue
            total[:] = _HALF
            for tap in range(len(along.weights)):
                weight, given = along.weights[tap, place], narrow[along.firsts[place] + tap]
                for at in range(columns):
                    total[at] += weight * given[at]
            for at in range(columns):
                small[at] = np.float32(total[at] >> _BITS) / _WHITE
            for at in range(width):
                out[plane, row, at] = small[across.places[at]]


@loop
def plasma_fractal(noise: Singles, decay: float, roughness: float, heights: Doubles) -> None:
    """Fills heights (N, S, S), zero on entry; noise (N, S² − 1) is used in order."""
    size = heights.shape[1]
    for image in range(len(heights)):
        field, used, step, rough = heights[image], 0, size, roughness
        while step >= 2:
            half = step // 2
            for kind in range(3):
                for row in range(0, size, step):
                    for column in range(0, size, step):
                        total = _neighbour_sum(field, row, column, half, kind)
                        share = np.float64(noise[image, used]) * (2.0 * rough) - rough
                        used += 1
                        down, right = row + (half if kind != 1 else 0), column + (half if kind != 2 else 0)
                        field[down, right] = total / 4.0 + share * rough
            step, rough = half, rough / decay


@loop
def _neighbour_sum(field: Doubles, row: int, column: int, half: int, kind: int) -> float:
    """Sum of the four neighbours of a square's centre (kind 0) or of the midpoint of its upper (1) or left (2) side; periodic."""
    size = len(field)
    below, right = (row + 2 * half) % size, (column + 2 * half) % size
    corner, down, across = field[row, column], row + half, column + half
    if kind == 0:
        total: float = (corner + field[below, column]) + (field[row, right] + field[below, right])
    elif kind == 1:
        total = (field[down, across] + field[row - half, across]) + (corner + field[row, right])
    else:
        total = (field[down, across] + field[down, column - half]) + (corner + field[below, column])
    return total
