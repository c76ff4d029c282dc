"""Progressive search on a lattice of parameters: from a coarse grid to the finest, around the best points found so far."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Point: TypeAlias = tuple[int, ...]
"""A place on the lattice, a whole number for each axis."""

WIDTH = 16  # points that are kept at each step, as in AdaLog


class Axis(NamedTuple):
    """Points 0 … size − 1 of one parameter; the first grid holds each `stride`-th, from 0 on."""

    size: int
    stride: int


class ProgressiveSearch:
    """The least error on a lattice, found as AdaLog's fast progressive combining search does: few points are compared, not all.

    `pending` holds the points whose errors `record` is to be given. The first are the grid of all axes' strides; then every stride is
    halved (down to 1) and the next are the neighbours, along every axis and diagonal, of the `width` best points of all so far: 8 children
    of each on two axes, 2 on one, without those that are known. Of equal errors the point that is smaller, axis by axis, is better, so
    that the search is deterministic. Where every point of the lattice is compared, `best` is the first of least error.
    """

    def __init__(self, *axes: Axis, width: int = WIDTH) -> None:
        self._axes, self._width = axes, width
        self._strides = [axis.stride for axis in axes]
        self._errors: dict[Point, float] = {}
        self.pending: list[Point] = list(itertools.product(*(range(0, axis.size, axis.stride) for axis in axes)))

    def record(self, errors: Sequence[float]) -> None:
        """Takes the errors of the pending points, in their order, and chooses the next."""
        self._errors |= dict(zip(self.pending, errors, strict=True))
        self._strides = [max(1, stride // 2) for stride in self._strides]
        children = {child for parent in self.best() for child in self._neighbours(parent)}
        self.pending = sorted(children - self._errors.keys())

    def best(self) -> list[Point]:
        """The `width` best points so far, the best first."""
        return sorted(self._errors, key=lambda point: (self._errors[point], point))[: self._width]

    def _neighbours(self, point: Point) -> list[Point]:
        ways = ([at - stride, at, at + stride] for at, stride in zip(point, self._strides, strict=True))
        return [one for one in itertools.product(*ways) if all(0 <= at < axis.size for at, axis in zip(one, self._axes, strict=True))]
