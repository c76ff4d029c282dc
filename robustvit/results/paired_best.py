"""Which of several models' numbers is the best by a paired test: those that tables and reports print bold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr

from robustvit.errors import MetricUndefined
from robustvit.records.cells import StoredCell, rows_of, stored_cells
from robustvit.results.comparison import ALPHA, mcnemar
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.leaderboard import GROUP, Leaderboard
from robustvit.spec import registry
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.correctness import DRAWN, correct_share
from robustvit.statistics.estimates import Metric, resolve_metric
from robustvit.statistics.intervals import Resampler, holm

_OF_CELLS = ("top1", "error", "robust_accuracy")
_COLUMNS = ("label", "pred", "attacked", *DRAWN)


class _Weighted(NamedTuple):
    """A cell of a number: what it is of, its id, its weight, and what must be equal on both sides to compare it."""

    setting: tuple[str, ...]
    cell: str
    weight: float
    edition: tuple[str, str]


class PairedTests:
    """Paired tests of the numbers of a leaderboard, on the samples that two models share.

    Tested are top-1 accuracy and error, robust accuracy, and every metric over several cells that is a sum of their errors with factors:
    means over severities and corruptions, mCE and relative mCE. One cell: McNemar's exact test. Several: the t-test of the differences per
    sample, summed over the cells with the factors of the number. P-values are corrected by Holm over the rivals of the best. Other metrics
    (calibration, flip rates, gaps of other metrics than errors, metrics with parameters) and leaderboards without a store have no test.
    """

    def __init__(self, board: Leaderboard) -> None:
        self._store, self._rows = board.store, board.rows
        self._cells: dict[tuple[str, str], StoredCell] = {}
        self._read: dict[tuple[str, str], pd.Series] = {}

    def best(self, numbers: Sequence[pd.DataFrame]) -> int | None:
        """The position of the best number, where it differs from each of the others; None where no test shows that.

        numbers: of each, the rows of the leaderboard that it is, or those that it is the mean of. Numbers that are not complete, that a
        reason doubts or whose gradients are suspect are neither best nor rivals; there must be two without them.
        """
        sound = [place for place, rows in enumerate(numbers) if _sound(rows)]
        if self._store is None or len(sound) < 2:
            return None
        higher = bool(numbers[sound[0]]["higher_is_better"].iloc[0])
        first, *others = sorted(sound, key=lambda place: float(numbers[place]["value"].mean()), reverse=higher)
        p_values = [self.p_value(numbers[first], numbers[other]) for other in others]
        known = [p for p in p_values if p is not None]
        return first if len(known) == len(others) and bool((holm(known) < ALPHA).all()) else None

    def p_value(self, a: pd.DataFrame, b: pd.DataFrame) -> float | None:
        """The two-sided p-value that two numbers are equal; None where they have no test or do not compare."""
        left, right = self._weighted(a), self._weighted(b)
        if not left or sorted((one.setting, one.edition) for one in left) != sorted((one.setting, one.edition) for one in right):
            return None
        beside = {one.setting: one for one in right}
        suites = str(a["suite"].iloc[0]), str(b["suite"].iloc[0])
        parts = []
        for one in left:
            both = pd.concat([self._right(suites[0], one.cell), self._right(suites[1], beside[one.setting].cell)], axis=1, join="inner")
            parts.append((both.iloc[:, 0] - both.iloc[:, 1]) * one.weight)
        return _p_value(pd.concat(parts, axis=1, join="inner").sum(axis=1).to_numpy(), len(parts))

    def _weighted(self, rows: pd.DataFrame) -> list[_Weighted]:
        found: list[_Weighted] = []
        for _, row in rows.iterrows():
            own = list(self._parts(row))
            found += [one._replace(weight=one.weight / len(rows)) for one in own]
            if not own:
                return []
        return found if len({one.setting for one in found}) == len(found) else []

    def _parts(self, row: pd.Series) -> Iterator[_Weighted]:
        """The cells that a row of the leaderboard is the mean over."""
        if row["metric"] in _OF_CELLS and row["cell"]:
            yield _part(row, 1.0)
        elif not row["cell"]:
            yield from self._averaged(row)

    def _averaged(self, row: pd.Series) -> Iterator[_Weighted]:
        """The cells of an average with their factors in it; none where it is no weighted sum of their errors."""
        entry = registry.entries("metric").get(row["metric"])
        if entry is None or entry.of != "error" or entry.over not in ("model", "corruption"):
            return
        alike = (self._rows[list(GROUP)] == row[list(GROUP)]).all(axis=1) & (self._rows["cell"] != "")
        rows = self._rows[alike].drop_duplicates("cell")
        stored = {str(cell): one for cell in rows["cell"] if (one := self._stored(str(row["suite"]), str(cell))) is not None}
        known = {cell: one for cell, one in stored.items() if one.question.kind == "corruption" and not one.data.clips}
        which = [str(row["scenario"])] if entry.over == "corruption" else []
        factors = factors_of_cells(resolve_metric(row["metric"]), list(known.values()), *which)
        by_cell = {str(one["cell"]): one for _, one in rows.iterrows()}
        for cell, factor in zip(known, factors, strict=False):
            if factor:
                yield _part(by_cell[cell], float(factor))

    def _stored(self, suite: str, cell: str) -> StoredCell | None:
        assert self._store is not None, "best() has a store"
        if not self._cells:
            self._cells = {(one.question.suite, one.question.cell): one for one in stored_cells(self._store)}
        return self._cells.get((suite, cell))

    def _right(self, suite: str, cell: str) -> pd.Series:
        """How far each sample of a cell is classified correctly, in [0, 1], by sample."""
        if (suite, cell) not in self._read:
            known = self._stored(suite, cell)
            rows = None if known is None or self._store is None else rows_of(self._store, known.question, _COLUMNS).rows
            self._read[suite, cell] = pd.Series(dtype=np.float64) if rows is None or "pred" not in rows else _shares(rows)
        return self._read[suite, cell]


def factors_of_cells(metric: Metric, cells: Sequence[StoredCell], *which: str) -> np.ndarray:
    """(cells,) the factor of each cell's error in a metric over them; which: the corruption, for a metric over one.

    (0,) where it is no sum of these errors with factors: it is asked for the value of no error, of one cell's error at a time, and of
    all of them together, and the last must follow from the others. (0,), too, where the cells are not those that it is of.
    """
    places = {one.variant: place for place, one in enumerate(cells)}
    if not cells or len(places) < len(cells):
        return np.zeros(0)
    together = np.linspace(0.1, 0.9, len(cells)) ** 2
    asked = np.column_stack([np.zeros(len(cells)), np.eye(len(cells)), together])
    first = cells[0]
    means = CellMeans(
        first.question.suite, first.question.base, first.data.classes, dict.fromkeys(places, Values("", np.zeros(1))), Resampler(),
        given={variant: asked[place] for variant, place in places.items()},
    )  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(metric.compute(means, *which), dtype=np.float64)
    except MetricUndefined:
        return np.zeros(0)
    factors = found[1:-1] - found[0]
    follows = bool(np.isfinite(found).all()) and math.isclose(found[-1], found[0] + factors @ together, rel_tol=1e-9, abs_tol=1e-12)
    return np.where(np.abs(factors) > 1e-12, factors, 0.0) if follows else np.zeros(0)


def _sound(rows: pd.DataFrame) -> bool:
    """Whether a number may be the best: complete, nothing doubts it, and its gradients are not suspect."""
    whole = bool(rows["value"].notna().all() and (rows["status"] == "complete").all() and (rows["reason"] == "").all())
    return whole and not any(verdict_word(str(text)) == "suspect" for text in rows["gradients"])


def _part(row: pd.Series, weight: float) -> _Weighted:
    setting = tuple(str(row[name]) for name in ("data", "scenario", "severity", "params"))
    return _Weighted(setting, str(row["cell"]), weight, (str(row["plugins"]), str(row["contents"])))


def _shares(rows: pd.DataFrame) -> pd.Series:
    shares = correct_share(rows)
    if "attacked" in rows:  # what was not attacked was misclassified before
        shares = np.where(rows["attacked"].fillna(False).astype(bool), shares, 0.0)
    return pd.Series(shares, rows["sample"])


def _p_value(differences: np.ndarray, cells: int) -> float | None:
    n = len(differences)
    if n < 2:
        return None
    if cells == 1 and set(np.unique(differences)) <= {-1.0, 0.0, 1.0}:
        return mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(mean) / (spread / math.sqrt(n))))
