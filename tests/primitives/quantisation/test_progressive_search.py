"""The progressive search against tables of errors of which every entry is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from robustvit.primitives.quantisation.progressive_search import Axis, Point, ProgressiveSearch

AXES = (Axis(129, 8), Axis(113, 16))


def searched(error: Callable[[Point], float], *axes: Axis, steps: int = 6, width: int = 16) -> tuple[ProgressiveSearch, list[list[Point]]]:
    """The search after some steps, and what it compared in each."""
    search, seen = ProgressiveSearch(*axes, width=width), []
    for _ in range(steps):
        seen.append(search.pending)
        search.record([error(point) for point in search.pending])
    return search, seen


def bowl(point: Point) -> float:
    return (point[0] - 37) ** 2 + 3.0 * (point[1] - 90) ** 2 + 2.0 * (point[0] - 37) * (point[1] - 90)


def test_the_least_of_a_bowl_is_found_with_few_comparisons() -> None:
    search, seen = searched(bowl, *AXES)
    assert search.best()[0] == (37, 90)
    assert sum(map(len, seen)) < 0.05 * 129 * 113


def test_the_first_grid_and_the_children_of_the_best() -> None:
    search, seen = searched(bowl, Axis(9, 4), Axis(5, 4), steps=1, width=1)
    assert seen[0] == [(0, 0), (0, 4), (4, 0), (4, 4), (8, 0), (8, 4)]
    assert search.best() == [(8, 4)]
    assert search.pending == [(6, 2), (6, 4), (8, 2)]
    search.record([bowl(point) for point in search.pending])
    assert search.pending == [(7, 3), (7, 4), (8, 3)]


def test_no_point_is_compared_twice_or_outside_the_lattice() -> None:
    seen = [point for step in searched(bowl, *AXES, steps=9)[1] for point in step]
    assert len(set(seen)) == len(seen)
    assert all(0 <= base < 129 and 0 <= scale < 113 for base, scale in seen)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_is_the_least_of_all_that_were_compared(seed) -> None:
    table = np.random.default_rng(seed).integers(0, 40, (129, 113))
    search, seen = searched(lambda point: float(table[point]), *AXES)
    compared = sorted((table[point], point) for step in seen for point in step)
    assert search.best() == [point for _, point in compared[:16]]


def test_of_equal_errors_the_first_is_best_whatever_the_order() -> None:
    assert searched(lambda point: 1.0, *AXES)[0].best()[0] == (0, 0)
    assert searched(lambda point: float(point[0] not in (24, 80)), Axis(129, 8))[0].best()[:2] == [(24,), (80,)]


def test_a_small_lattice_is_searched_wholly() -> None:
    table = np.random.default_rng(1).random((7, 6))
    search, seen = searched(lambda point: table[point], Axis(7, 2), Axis(6, 2), steps=4, width=42)
    assert {point for step in seen for point in step} == set(itertools.product(range(7), range(6)))
    assert search.best()[0] == np.unravel_index(table.argmin(), table.shape)
