"""The integer tables of Pillow's BOX filter, which shrinks images, and of its NEAREST filter, which enlarges them."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 22  # the sum of a pixel's weights


class BoxTables(NamedTuple):
    """Tables for one side of an image. weights: (taps, small side) int32; firsts: (small side,) the first source pixel of each.

    places: (side,) the pixel of the small image that each pixel of the enlarged one copies.
    """

    weights: NDArray[np.int32]
    firsts: NDArray[np.int64]
    places: NDArray[np.int64]


@functools.lru_cache(maxsize=64)
def box_tables(side: int, share: float) -> BoxTables:
    """Tables for shrinking a side of `side` pixels to `share` of it and enlarging it again."""
    count = max(1, int(side * share))
    scale = side / count
    boxes = [_pixels_in_box(at, scale, side) for at in range(count)]
    taps = max(len(pixels) for pixels in boxes)
    firsts = [min(pixels[0], side - taps) for pixels in boxes]
    weights = np.zeros((taps, count), dtype=np.int32)
    for at, (first, pixels) in enumerate(zip(firsts, boxes, strict=True)):
        weights[pixels[0] - first : pixels[-1] - first + 1, at] = int(0.5 + _ONE * (1.0 / len(pixels)))
    return BoxTables(weights, np.array(firsts), _places(side, count))


def _pixels_in_box(at: int, scale: float, side: int) -> list[int]:
    """The source pixels whose centre lies in the box of pixel `at` of the small image."""
    centre = (at + 0.5) * scale
    near = range(max(0, int(centre - scale / 2 + 0.5)), min(side, int(centre + scale / 2 + 0.5)))
    return [pixel for pixel in near if -0.5 < (pixel - centre + 0.5) / scale <= 0.5]


def _places(side: int, count: int) -> NDArray[np.int64]:
    """Nearest source pixels. Pillow accumulates the step pixel by pixel, which rounds differently from multiplying."""
    step = count / side
    steps = np.full(side, step)
    steps[0] = step * 0.5
    return np.array(np.cumsum(steps), dtype=np.int64)
