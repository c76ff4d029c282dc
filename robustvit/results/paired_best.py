"""Which of several models' numbers is the best by a paired test: those that tables and reports print bold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr

from robustvit.records.cells import StoredCell, rows_of, stored_cells
from robustvit.results.comparison import ALPHA, mcnemar
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.leaderboard import GROUP, Leaderboard
from robustvit.spec import registry
from robustvit.statistics.correctness import DRAWN, correct_share
from robustvit.statistics.intervals import holm

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

    Tested are top-1 accuracy and error, robust accuracy, the error of one corruption, and the mean of such errors. One cell: McNemar's
    exact test. A mean over cells: the t-test of the differences per sample, each averaged over the cells as the number is. P-values are
    corrected by Holm over the rivals of the best. Other metrics, and leaderboards without a store, have no test.
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
        elif row["metric"] in ("corruption_error", "mean_corruption_error") and not row["cell"]:
            alike = (self._rows[list(GROUP)] == row[list(GROUP)]).all(axis=1) & (self._rows["cell"] != "")
            cells = self._rows[alike & (self._rows["severity"] != "") & self._rows["scenario"].isin(registry.entries("corruption").keys())]
            cells = cells[cells["scenario"] == row["scenario"]] if row["scenario"] else cells
            cells = cells.drop_duplicates("cell")
            counts = cells["scenario"].value_counts()
            for _, cell in cells.iterrows():
                yield _part(cell, 1.0 / (len(counts) * int(counts[cell["scenario"]])))

    def _right(self, suite: str, cell: str) -> pd.Series:
        """How far each sample of a cell is classified correctly, in [0, 1], by sample."""
        if (suite, cell) not in self._read:
            assert self._store is not None, "best() has a store"
            if not self._cells:
                self._cells = {(one.question.suite, one.question.cell): one for one in stored_cells(self._store)}
            known = self._cells.get((suite, cell))
            rows = None if known is None else rows_of(self._store, known.question, _COLUMNS).rows
            self._read[suite, cell] = pd.Series(dtype=np.float64) if rows is None or "pred" not in rows else _shares(rows)
        return self._read[suite, cell]


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
