"""Orders and subsets that are listed or drawn, against their enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.seeded_choices import kendall_distance, listed_orders, listed_subsets, order_at_distance


def inversions(order: tuple[int, ...]) -> int:
    """Counted by exchanging neighbours until the order ascends, as in bubble sort."""
    left, count = list(order), 0
    while left != sorted(left):
        for at in range(len(left) - 1):
            if left[at] > left[at + 1]:
                left[at], left[at + 1], count = left[at + 1], left[at], count + 1
    return count


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_orders_are_all(count: int) -> None:
    assert set(listed_orders(count, 25)) == set(itertools.permutations(range(count)))
    assert len(listed_orders(count, 25)) == math.factorial(count)


def test_many_orders_are_as_many_as_asked_distinct_and_a_prefix_of_more() -> None:
    few, more = listed_orders(12, 25), listed_orders(12, 40)
    assert len(set(few)) == 25
    assert more[:25] == few
    assert all(sorted(order) == list(range(12)) for order in few)
    assert listed_orders(12, 25, seed=1) != few
    assert len(set(listed_orders(5, 100))) == 100  # of 120, so that some are drawn twice


def test_subsets_are_all_or_distinct_and_of_their_size() -> None:
    assert set(listed_subsets(5, 2, 10)) == set(itertools.combinations(range(5), 2))
    drawn = listed_subsets(12, 6, 10)
    assert len(set(drawn)) == 10
    assert all(len(one) == 6 and list(one) == sorted(set(one)) for one in drawn)
    assert listed_subsets(4, 0, 10) == [()]


def test_the_distance_is_the_share_of_exchanges_of_neighbours() -> None:
    for order in itertools.permutations(range(5)):
        assert kendall_distance(order) == inversions(order) / 10
    assert kendall_distance((0,)) == 0.0


def test_an_order_at_a_distance_is_uniform_among_those_with_that_many_inversions() -> None:
    wanted = [order for order in itertools.permutations(range(4)) if inversions(order) == 3]
    draws = Draws(0, "x", [str(i) for i in range(1200)])
    found = Counter(order_at_distance(4, 3, Draws(0, "x", [name])) for name in draws.ids)
    assert set(found) == set(wanted)
    assert all(abs(number - 200) < 4 * math.sqrt(200) for number in found.values())


@pytest.mark.parametrize("count", [2, 7, 24])
def test_every_number_of_inversions_can_be_drawn(count: int) -> None:
    most = count * (count - 1) // 2
    for number in (0, 1, most // 2, most):
        assert inversions(order_at_distance(count, number, Draws(0, "x", ["a"]))) == number
    with pytest.raises(ValueError, match=f"0 to {most} inversions"):
        order_at_distance(count, most + 1, Draws(0, "x", ["a"]))
