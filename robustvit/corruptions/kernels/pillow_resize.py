"""The tables by which Pillow shrinks pictures with its BOX filter and enlarges them with NEAREST, in whole numbers."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 22  # what a pixel's weights add up to


class Shrinking(NamedTuple):
    """One side of a picture. weights: (taps, small side) int32; firsts: (small side,) the first pixel that each meets.

    places: (side,) where in the small picture each pixel of the enlarged one lies.
    """

    weights: NDArray[np.int32]
    firsts: NDArray[np.int64]
    places: NDArray[np.int64]


@functools.lru_cache(maxsize=64)
def shrinking(side: int, share: float) -> Shrinking:
    """Tables for a side of so many pixels, shrunk to `share` of it and enlarged again."""
    count = max(1, int(side * share))
    scale = side / count
    met = [_met(at, scale, side) for at in range(count)]
    taps = max(len(pixels) for pixels in met)
    firsts = [min(pixels[0], side - taps) for pixels in met]
    weights = np.zeros((taps, count), dtype=np.int32)
    for at, (first, pixels) in enumerate(zip(firsts, met, strict=True)):
        weights[pixels[0] - first : pixels[-1] - first + 1, at] = int(0.5 + _ONE * (1.0 / len(pixels)))
    return Shrinking(weights, np.array(firsts), _places(side, count))


def _met(at: int, scale: float, side: int) -> list[int]:
    """The pixels whose middle lies in the box of the small picture's pixel `at`."""
    centre = (at + 0.5) * scale
    near = range(max(0, int(centre - scale / 2 + 0.5)), min(side, int(centre + scale / 2 + 0.5)))
    return [pixel for pixel in near if -0.5 < (pixel - centre + 0.5) / scale <= 0.5]


def _places(side: int, count: int) -> NDArray[np.int64]:
    """Pillow adds up the step pixel by pixel, which rounds otherwise than multiplying."""
    step = count / side
    steps = np.full(side, step)
    steps[0] = step * 0.5
    return np.array(np.cumsum(steps), dtype=np.int64)
