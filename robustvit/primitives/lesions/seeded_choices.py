"""Orders and subsets of a few things: all of them where they are few, else distinct ones that a seed draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from robustvit.primitives.draws import Draws


def listed_orders(count: int, most: int, seed: int = 0) -> list[tuple[int, ...]]:
    """All count! orders of 0 … count − 1 in lexicographic order where these are at most `most`; else so many distinct random ones.

    Those of a larger `most` begin with those of a smaller one, unless they are all.
    """
    if math.factorial(count) <= most:
        return list(itertools.permutations(range(count)))
    return _distinct(_orders(count, seed), most)


def listed_subsets(count: int, size: int, most: int, seed: int = 0) -> list[tuple[int, ...]]:
    """All subsets of so many of 0 … count − 1, each ascending, where these are at most `most`; else so many distinct random ones."""
    if math.comb(count, size) <= most:
        return list(itertools.combinations(range(count), size))
    return _distinct((tuple(sorted(order[:size])) for order in _orders(count, seed)), most)


def kendall_distance(order: Sequence[int]) -> float:
    """The share of pairs that stand the other way round than their numbers: 0 of an ascending order, 1 of a descending one.

    Kendall's tau is 1 − 2 · distance (Kendall 1938). An order of fewer than two has the distance 0.
    """
    pairs = list(itertools.combinations(order, 2))
    return sum(first > second for first, second in pairs) / len(pairs) if pairs else 0.0


def order_at_distance(count: int, inversions: int, draws: Draws) -> tuple[int, ...]:
    """A uniformly random order of 0 … count − 1 in which so many pairs stand the other way round. draws: of one sample.

    Place by place it draws how many smaller ones still to come are passed over, with the number of ways to go on as weights (Mahonian
    numbers; the code of an order is due to Lehmer 1960). Raises ValueError for more inversions than there are pairs.
    """
    ways = _mahonian(count)
    if not 0 <= inversions < len(ways[count]):
        raise ValueError(f"{count} things have 0 to {len(ways[count]) - 1} inversions, not {inversions}.")
    shares = draws.uniform(count)[0].double().tolist()
    left, open_, found = inversions, list(range(count)), []
    for place in range(count):
        rest = ways[count - place - 1]
        weights = [rest[left - code] if 0 <= left - code < len(rest) else 0 for code in range(count - place)]
        code = _drawn_by(weights, shares[place])
        found.append(open_.pop(code))
        left -= code
    return tuple(found)


def _mahonian(count: int) -> list[list[int]]:
    """For 0 … count things the number of their orders with 0, 1, 2, … inversions."""
    ways = [[1]]
    for things in range(1, count + 1):
        longer = [0] * (len(ways[-1]) + things - 1)
        for inversions, number in enumerate(ways[-1]):
            for code in range(things):
                longer[inversions + code] += number
        ways.append(longer)
    return ways


def _drawn_by(weights: Sequence[int], share: float) -> int:
    """The place at which the running sum of weights first exceeds a share in [0, 1) of their sum."""
    bound, total = share * sum(weights), 0
    for place, weight in enumerate(weights):
        total += weight
        if bound < total:
            return place
    raise AssertionError("a share in [0, 1) of a positive sum is exceeded")


def _orders(count: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Uniformly random orders without end, the same for a seed."""
    for number in itertools.count():
        yield tuple(Draws(seed, "listed choices", [str(number)]).permutation(count)[0].tolist())


def _distinct(drawn: Iterator[tuple[int, ...]], most: int) -> list[tuple[int, ...]]:
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        found[next(drawn)] = None
    return list(found)
