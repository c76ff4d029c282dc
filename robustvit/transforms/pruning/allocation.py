"""How much to prune of each layer so that what all lose together is least: the points of equal slope of their distortion curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Curve(NamedTuple):
    """What pruning a layer costs, at rising levels: weights removed, from 0, and distortion, from 0."""

    removed: Sequence[float]
    distortion: Sequence[float]


def equal_slope(curves: Sequence[Curve], amount: float) -> list[int]:
    """The level of each curve at which together at most `amount` of what the last levels remove is removed, at equal slopes.

    Between levels a curve is followed along its lower convex hull, so that a slope has one level; the slope is found by bisection.
    """
    hulls = [lower_hull(curve) for curve in curves]
    slopes = sorted({_slope(curve, *ends) for curve, hull in zip(curves, hulls, strict=True) for ends in pairwise(hull)})
    most = amount * sum(curve.removed[-1] for curve in curves) * (1 + 1e-12)

    def levels(slope: float) -> list[int]:
        return [_level(curve, hull, slope) for curve, hull in zip(curves, hulls, strict=True)]

    low, high = -1, len(slopes)  # slopes[low] removes at most as much as asked, slopes[high] more
    while high - low > 1:
        middle = (low + high) // 2
        removed = sum(curve.removed[level] for curve, level in zip(curves, levels(slopes[middle]), strict=True))
        low, high = (middle, high) if removed <= most else (low, middle)
    return levels(slopes[low]) if low >= 0 else [0] * len(curves)


def lower_hull(curve: Curve) -> list[int]:
    """The levels of a curve on its lower convex hull, from the first to the last, without those that remove no more than the one before."""
    hull: list[int] = []
    for level in range(len(curve.removed)):
        if hull and curve.removed[level] == curve.removed[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(curve, hull[-2], hull[-1]) >= _slope(curve, hull[-1], level):
            hull.pop()
        hull.append(level)
    return hull


def _slope(curve: Curve, start: int, stop: int) -> float:
    return (curve.distortion[stop] - curve.distortion[start]) / (curve.removed[stop] - curve.removed[start])


def _level(curve: Curve, hull: list[int], slope: float) -> int:
    """The last level of a hull that is reached along slopes of at most this."""
    found = hull[0]
    for start, stop in pairwise(hull):
        if _slope(curve, start, stop) > slope:
            break
        found = stop
    return found
