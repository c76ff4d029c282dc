"""Iterated function systems: a few affine maps of the plane that contract, and the points of their attractor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustvit.primitives.draws import Draws

FEWEST, MOST = 2, 7  # maps of a random system
STEPS = 128  # maps that follow each other in one orbit
_LONGEST = 0.95  # largest singular value of a map; a larger one is scaled down to it
_LEAST = 0.01  # chance of a map with a small determinant, before the chances are divided by their sum


class IteratedFunctions(NamedTuple):
    """n maps x → matrix·x + shift. matrices: (n, 2, 2); shifts: (n, 2); float64. Singular values are below 1."""

    matrices: NDArray[np.float64]
    shifts: NDArray[np.float64]

    @property
    def chances(self) -> NDArray[np.float64]:
        """How often each map is taken, (n,): in proportion to its determinant, so that the points are spread evenly, but at least 1 %."""
        (a, b), (c, d) = self.matrices.transpose(1, 2, 0)
        found = np.abs(a * d - b * c).clip(min=_LEAST)
        return np.asarray(found / found.sum())

    @property
    def fixed_point(self) -> NDArray[np.float64]:
        """The point that the first map leaves where it is, (2,)."""
        ((a, b), (c, d)), (e, f) = np.eye(2) - self.matrices[0], self.shifts[0]
        return np.asarray(np.array([d * e - b * f, a * f - c * e]) / (a * d - b * c))

    def scaled(self, entry: int, factor: float) -> IteratedFunctions:
        """With one of a, b, c, d (of [[a, b], [c, d]]), e, f (of the shift) of every map multiplied, and maps scaled to contract."""
        matrices, shifts = self.matrices.copy(), self.shifts.copy()
        if entry < 4:
            matrices[:, entry // 2, entry % 2] *= factor
        else:
            shifts[:, entry - 4] *= factor
        return IteratedFunctions(contracting(matrices), shifts)


class Orbit(NamedTuple):
    """points: (P, 2) on the attractor; colours: (P, 3), each the mean of a point's last colour and that of the map that made it."""

    points: NDArray[np.float64]
    colours: NDArray[np.float64]


def random_system(draws: Draws) -> IteratedFunctions:
    """A system of 2 to 7 maps with entries uniform in [−1, 1), of the draws of one sample; maps that do not contract are scaled down."""
    count = int(draws.at("maps").integers(low=FEWEST, high=MOST + 1))
    entries = draws.at("entries").uniform(MOST, 6, low=-1.0, high=1.0)[0, :count].double().numpy()
    return IteratedFunctions(contracting(entries[:, :4].reshape(-1, 2, 2)), entries[:, 4:])


def contracting(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices (n, 2, 2), those with a singular value above 0.95 divided so that it is 0.95."""
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    longest = (np.sqrt((a + d) ** 2 + (c - b) ** 2) + np.sqrt((a - d) ** 2 + (b + c) ** 2)) / 2
    return np.asarray(matrices * np.minimum(1.0, _LONGEST / longest.clip(min=1e-12))[:, None, None])


def orbit(system: IteratedFunctions, draws: Draws, count: int) -> Orbit:
    """At least `count` points of the attractor by the chaos game, of the draws of one sample: many orbits of 128 steps each.

    They begin at the fixed point of the first map, which lies on the attractor. Colours are random, one for each map.
    """
    orbits = -(-count // STEPS)
    bounds = np.cumsum(system.chances)[:-1]
    palette = draws.at("palette").uniform(MOST, 3)[0].double().numpy()
    taken = (draws.at("steps").uniform(STEPS, orbits)[0].double().numpy()[..., None] >= bounds).sum(axis=-1)
    point = np.broadcast_to(system.fixed_point, (orbits, 2))
    colour = np.broadcast_to(palette[0], (orbits, 3))
    points, colours = np.empty((STEPS, orbits, 2)), np.empty((STEPS, orbits, 3))
    for step, chosen in enumerate(taken):
        matrix = system.matrices[chosen]
        point = matrix[:, :, 0] * point[:, :1] + matrix[:, :, 1] * point[:, 1:] + system.shifts[chosen]
        colour = (colour + palette[chosen]) / 2
        points[step], colours[step] = point, colour
    return Orbit(points.reshape(-1, 2), colours.reshape(-1, 3))
