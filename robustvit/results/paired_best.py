"""Paired tests of several models' numbers: their ranks, and which of them is the best, which tables and reports print bold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtr

from robustvit.results.comparison import mcnemar
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.ranks.rank_intervals import PairedTest, Rank, rank_intervals
from robustvit.results.ranks.sample_values import NumberValues, SampleValues
from robustvit.results.small_images import is_of_size
from robustvit.spec.grouping import grouped
from robustvit.statistics.estimates import describes

_UNTESTED, _ALONE, _OTHERS = "no paired test", "no other model to compare with", "other cells, versions or images than other models"
_DIGITS = 12  # after which differences of sums are rounding


class PairedTests:
    """Paired tests of the numbers of a leaderboard, on the samples that two models share.

    Tested are shares of the samples of a cell (top-1 accuracy, error, robust and certified accuracy, …), the worst case over attacks, and
    every metric over several cells that is a sum of their errors with factors: means over severities and corruptions, mCE and relative
    mCE. Counts of samples: McNemar's exact test. Others: the t-test of the differences per sample, summed over the cells with the factors
    of the number. P-values are corrected by Holm over all pairs of a column. Other metrics (NLL, calibration, flip rates, gaps of other
    metrics than errors) and leaderboards without a store have no test.
    """

    def __init__(self, board: Leaderboard) -> None:
        self._values = SampleValues(board)

    def ranks(self, numbers: Sequence[pd.DataFrame]) -> list[Rank]:
        """The rank of each number of a column, as `rank_intervals` defines it; without one, the reason.

        numbers: of each, the rows of the leaderboard that it is, or those that it is the mean of. Ranked are numbers that are complete,
        that no reason doubts (but the size of images, where all have it) and whose gradients are not suspect; of these the most that are of
        the same cells, computed with the same versions on the same images; two at least.
        """
        found = [Rank(reason=_unsound(rows)) for rows in numbers]
        sound = [place for place, one in enumerate(found) if not one.reason]
        values = {place: self._values.of(numbers[place]) for place in sound} if len(sound) > 1 else {}
        known = {place: one for place, one in values.items() if one is not None}
        alike = grouped(((one.question, tuple(dict.fromkeys(numbers[place]["reason"]))), place) for place, one in known.items())
        ranked = max(alike.values(), key=len, default=[])
        if len(ranked) > 1:
            tests = {(a, b): test for a, b in itertools.combinations(range(len(ranked)), 2)
                     if (test := _tested(known[ranked[a]], known[ranked[b]])) is not None}  # fmt: skip
            higher = bool(numbers[ranked[0]]["higher_is_better"].iloc[0])
            own = dict(zip(ranked, rank_intervals(len(ranked), tests, higher_is_better=higher), strict=True))
        else:
            own = {}
        for place in sound:
            reason = _ALONE if len(sound) < 2 else _OTHERS if place in known else _UNTESTED
            found[place] = own.get(place) or Rank(reason=reason)
        return found

    def best(self, numbers: Sequence[pd.DataFrame]) -> int | None:
        """The position of the number that is shown to be better than each of the others; None where there is none.

        Numbers that `ranks` leaves out as incomplete or doubtful are neither best nor rivals; there must be two without them.
        """
        return best_of(self.ranks(numbers))

    def test(self, a: pd.DataFrame, b: pd.DataFrame) -> PairedTest | None:
        """The paired test of two numbers; None where they have none or do not compare."""
        left, right = self._values.of(a), self._values.of(b)
        return None if left is None or right is None or left.question != right.question else _tested(left, right)

    def p_value(self, a: pd.DataFrame, b: pd.DataFrame) -> float | None:
        """The two-sided p-value that two numbers are equal; None where they have no test or do not compare."""
        found = self.test(a, b)
        return None if found is None else found.p


def best_of(ranks: Sequence[Rank]) -> int | None:
    """The position of the one that is surely the first of a column; None where there is none, or a sound number has no rank."""
    first = next((place for place, one in enumerate(ranks) if one.last == 1), None)
    return None if any(one.reason in (_UNTESTED, _ALONE, _OTHERS) for one in ranks) else first


def _unsound(rows: pd.DataFrame) -> str:
    """Why a number is not compared with others, "" where it is: it is not complete, something doubts it, or its gradients are suspect."""
    if bool(rows["value"].isna().any()) or bool((rows["status"] != "complete").any()):
        return next((str(status) for status in rows["status"] if status != "complete"), "no value")
    if describes(str(rows["metric"].iloc[0])):
        return "neither more nor less of it is better"
    if any(verdict_word(str(text)) == "suspect" for text in rows["gradients"]):
        return "gradients suspect"
    return "" if all(reason == "" or is_of_size(reason) for reason in rows["reason"].unique()) else "marked"


def _tested(a: NumberValues, b: NumberValues) -> PairedTest | None:
    """The test of the samples that both have; None where these are fewer than two."""
    if a.samples is b.samples:
        differences = a.values - b.values
    else:
        left, right = _places(a.samples, b.samples)
        differences = a.values[left] - b.values[right]
    n = len(differences)
    if n < 2:
        return None
    differences = np.round(differences, _DIGITS)
    mean = float(differences.mean())
    if a.counted and b.counted:
        return PairedTest(mean, mcnemar(int((differences > 0).sum()), int((differences < 0).sum())))
    spread = float(differences.std(ddof=1))
    if spread == 0:
        return PairedTest(mean, 1.0 if mean == 0 else 0.0)
    return PairedTest(mean, 2 * float(stdtr(n - 1, -abs(mean) / (spread / math.sqrt(n)))))


def _places(a: pd.Index, b: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Where the ids that both have are in each."""
    at = b.get_indexer(a)
    shared = np.flatnonzero(at >= 0)
    return shared, at[shared]
