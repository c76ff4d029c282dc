"""The ranks of several models by pairwise tests, with ties that need not be transitive.

The rank of a model is one more than the number of models that are shown to be better, and the last rank that it may have is their number
less those that are shown to be worse. With p-values that Holm corrects over all pairs, the true rank of every model lies between the two,
of all models at once, with a probability of at least 95 % (Mogstad, Romano, Shaikh and Wilhelm 2024, Inference for Ranks with Applications
to Mobility across Neighborhoods and Academic Achievement across Countries, Review of Economic Studies 91). Chatbot Arena ranks models by
the same count, of intervals that do not overlap (Chiang et al. 2024, ICML). Where A beats C, and B differs from neither, A and B share the
first rank and C has the second: one model is shown to be better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from robustvit.results.comparison import ALPHA
from robustvit.statistics.intervals import holm


class PairedTest(NamedTuple):
    """The mean paired difference a − b of two numbers, and its two-sided p-value."""

    difference: float
    p: float


class Rank(NamedTuple):
    """The rank of a model among `among`, and the last that it may have; both 0 where it has none, and `reason` says why.

    shared: whether another model has the same rank.
    """

    rank: int = 0
    last: int = 0
    among: int = 0
    shared: bool = False
    reason: str = ""

    @property
    def text(self) -> str:
        """`1=` for a rank that is shared, `3`; "" without a rank."""
        return f"{self.rank}{'=' if self.shared else ''}" if self.rank else ""

    @property
    def span(self) -> str:
        """The ranks that the tests leave open: `1 to 3`, or `2`."""
        return f"{self.rank} to {self.last}" if self.last > self.rank else str(self.rank or "")


def rank_intervals(count: int, tests: Mapping[tuple[int, int], PairedTest], *, higher_is_better: bool) -> list[Rank]:
    """The ranks of `count` models. tests: of each pair (a, b) of their places that has one, in either order; of others nothing is shown."""
    better, worse = [0] * count, [0] * count
    for pair, test, corrected in zip(tests, tests.values(), holm([one.p for one in tests.values()]), strict=True):
        if corrected < ALPHA:
            first, second = pair if (test.difference > 0) == higher_is_better else pair[::-1]
            worse[first] += 1
            better[second] += 1
    return [Rank(1 + better[at], count - worse[at], count, better.count(better[at]) > 1) for at in range(count)]
