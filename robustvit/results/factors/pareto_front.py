"""The models of a factor view that no other beats at equal cost or less, and whether that is more than noise."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from robustvit.results.comparison import ALPHA
from robustvit.results.factors.view import FactorView
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.paired_best import PairedTests
from robustvit.results.ranks.rank_intervals import PairedTest
from robustvit.statistics.intervals import holm


class Standing(NamedTuple):
    """Whether a model is on the Pareto front, beside its rival: the best of the others that cost no more, "" where none does.

    shown: whether a test shows that the model is better than its rival, or worse where it is not on the front; None without a test.
    """

    front: bool
    rival: str = ""
    shown: bool | None = None

    @property
    def noise(self) -> bool:
        """Whether a test leaves open whether the model is on the front."""
        return self.shown is False

    @property
    def text(self) -> str:
        """`on the front`, `dominated by demo`, `dominated by demo within noise`."""
        if self.front:
            return f"on the front; within noise of {self.rival}" if self.noise else "on the front"
        return f"dominated by {self.rival}" + (" within noise" if self.noise else "")

    @property
    def mark(self) -> str:
        """`*` on the front, `* ?` and `?` where noise could decide otherwise."""
        return " ".join(part for part in ("*" if self.front else "", "?" if self.noise else "") if part)


class ScoreTests:
    """Tests of the differences between scores of a factor view: paired by image where its leaderboard has a store, else by intervals.

    Of two scores with intervals and without pairs, the standard error of the difference is that of the ends that face each other, as
    MOVER combines them (Zou and Donner 2008), divided by the normal quantile: right for other images, too cautious for the same ones.
    """

    def __init__(self, board: Leaderboard | None = None, tests: PairedTests | None = None) -> None:
        self._board = board
        self._tests = tests or (None if board is None else PairedTests(board))

    def test(self, view: FactorView, score: str, a: Hashable, b: Hashable) -> PairedTest | None:
        """The test of a − b, two rows of the view by label; None where there is neither a paired test nor two intervals."""
        places = view.places.get((a, score)), view.places.get((b, score))
        if self._board is not None and self._tests is not None and None not in places:
            found = self._tests.test(*(self._board.rows.loc[[place]] for place in places))
            if found is not None:
                return found
        first, second = (view.rows.loc[[one]].iloc[0] for one in (a, b))
        return _of_intervals(first, second, score)


def _of_intervals(a: pd.Series, b: pd.Series, score: str) -> PairedTest | None:
    difference = float(a[score] - b[score])
    upper, lower = (a, b) if difference >= 0 else (b, a)
    down, up = upper[score] - upper.get(f"{score}_low", math.nan), lower.get(f"{score}_high", math.nan) - lower[score]
    width = math.hypot(float(down), float(up))
    if math.isnan(width):
        return None
    if width == 0:
        return PairedTest(difference, 1.0 if difference == 0 else 0.0)
    return PairedTest(difference, 2 * float(ndtr(-abs(difference) / width * ndtri(1 - ALPHA / 2))))


def pareto(view: FactorView, cost: str, score: str) -> pd.DataFrame:
    """The Pareto front, cheapest first: models that no other equals at less cost or beats at no more. Models without both are left out."""
    part = view.rows[view.rows[cost].notna() & view.rows[view.need(score)].notna()]
    sign = 1.0 if view.scores[score] else -1.0
    costs, scores = part[cost].to_numpy(), sign * part[score].to_numpy()
    no_worse = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    better = (costs[:, None] < costs) | (scores[:, None] > scores)
    front: pd.DataFrame = part.iloc[np.flatnonzero(~np.any(no_worse & better, axis=0))]
    return front.sort_values(by=[cost], kind="stable")


def standings(view: FactorView, cost: str, score: str, tests: ScoreTests | None = None) -> dict[Hashable, Standing]:
    """Whether each model with both numbers is on the Pareto front, and whether a test shows it, by the labels of the rows.

    Each model is tested against its rival, and p-values are corrected by Holm over all models that have one. tests: default, by intervals.
    """
    tests = tests or ScoreTests()
    part = view.rows[view.rows[cost].notna() & view.rows[view.need(score)].notna()]
    front, sign = set(pareto(view, cost, score).index), 1.0 if view.scores[score] else -1.0
    rivals = {}
    for own in part.index:
        others = part[(part[cost] <= part.loc[own, cost]) & (part.index != own)]
        if len(others):
            rivals[own] = (sign * others[score]).idxmax()
    found = {own: tests.test(view, score, own, rival) for own, rival in rivals.items()}
    known = {own: one for own, one in found.items() if one is not None}
    corrected = dict(zip(known, holm([one.p for one in known.values()]), strict=True))
    shown = {own: bool(corrected[own] < ALPHA) and (sign * one.difference > 0) == (own in front) for own, one in known.items()}
    return {own: Standing(own in front, str(part.loc[rivals[own], "model"]) if own in rivals else "", shown.get(own)) for own in part.index}
