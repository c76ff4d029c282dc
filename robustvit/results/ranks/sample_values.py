"""What each sample contributes to a number of a leaderboard, by which two models' numbers are paired."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MetricUndefined
from robustvit.records.cells import RowReader, StoredCell, stored_cells
from robustvit.results.attack_outcomes import moves_images
from robustvit.results.cell_scores import cell_context
from robustvit.results.leaderboard import Leaderboard, suite_metrics
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.worst_cases import ball_of
from robustvit.spec import registry
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.correctness import DRAWN, correct_share
from robustvit.statistics.estimates import Metric, resolve_metric
from robustvit.statistics.resamples import Resampler

_OF_CORRECTNESS = {"top1": 1.0, "error": -1.0, "robust_accuracy": 1.0}
_COLUMNS = ("label", "pred", "attacked", *DRAWN)
_WORST = "worst_case_accuracy"


class NumberValues(NamedTuple):
    """The contributions of samples to a number, whose mean is it up to a constant. samples: their ids, unique.

    question: what must be equal on both sides to compare two numbers. counted: whether a sample contributes 0 or 1.
    """

    question: tuple[object, ...]
    samples: pd.Index
    values: np.ndarray
    counted: bool


class _Part(NamedTuple):
    """A cell of a number: what it is of, its versions, its id, its metric and weight."""

    setting: tuple[str, ...]
    edition: tuple[str, str]
    cell: str
    metric: str
    weight: float


class SampleValues:
    """Reads from the store of a leaderboard what each sample contributes to its numbers, each cell once."""

    def __init__(self, board: Leaderboard) -> None:
        self._rows = board.rows
        self._reader = None if board.store is None else RowReader(board.store, {})
        self._errors = board.errors
        self._cells: dict[tuple[str, str], StoredCell] = {}
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._read: dict[tuple[str, str, str], pd.Series] = {}
        self._averages: dict[object, list[_Part]] = {}
        self._indexes: dict[int, tuple[pd.Series, pd.Index]] = {}
        groups = [part.index for _, part in board.rows.groupby(list(GROUP), sort=False)]
        self._groups = {label: at for at, labels in enumerate(groups) for label in labels}
        self._labels = groups

    def of(self, rows: pd.DataFrame) -> NumberValues | None:
        """Those of a number, by the rows of the leaderboard that it is, or is the mean of; None where samples do not add up to it."""
        if self._reader is None:
            return None
        suite = str(rows["suite"].iloc[0])
        every = [self._parts(row) for _, row in rows.iterrows()]
        parts = sorted(one._replace(weight=one.weight / len(rows)) for some in every for one in some)
        if not all(every) or len({one.setting for one in parts}) < len(parts):
            return None
        series = [self._of_cell(suite, one) for one in parts]
        if not all(map(len, series)):
            return None
        worst = rows["metric"].iloc[0] == _WORST
        index, columns = _joined(series)
        weights = np.array([one.weight for one in parts])
        values = columns.min(axis=0).astype(np.float64) if worst else np.asarray(weights @ columns)
        counted = (worst or len(parts) == 1) and bool(np.isin(columns, (-1.0, 0.0, 1.0)).all())
        return NumberValues((str(rows["metric"].iloc[0]), *((one.setting, one.edition) for one in parts)), index, values, counted)

    def _parts(self, row: pd.Series) -> list[_Part]:
        """The cells that a row of the leaderboard is of; none where it is no weighted sum over them."""
        if row["cell"]:
            return [_part(row, str(row["metric"]), _OF_CORRECTNESS.get(row["metric"], 1.0))]
        if row.name not in self._averages:
            self._averages[row.name] = list(self._attacks(row) if row["metric"] == _WORST else self._averaged(row))
        return self._averages[row.name]

    def _beside(self, row: pd.Series) -> pd.DataFrame:
        """The rows of the cells of the same model on the same suite."""
        own = self._rows.loc[self._labels[self._groups[row.name]]]
        return own[own["cell"] != ""]

    def _attacks(self, row: pd.Series) -> Iterator[_Part]:
        """The attacks in the ball of a worst case."""
        own = self._beside(row)
        for one in own[own["metric"] == "robust_accuracy"].to_dict("records"):
            if not moves_images(one["scenario"]) and ball_of(one["params"], one["severity"]) == row["scenario"]:
                yield _part(one, "robust_accuracy", 1.0)

    def _averaged(self, row: pd.Series) -> Iterator[_Part]:
        """The cells of an average with their factors in it; none where it is no weighted sum of their errors."""
        entry = registry.entries("metric").get(row["metric"])
        if entry is None or entry.of != "error" or entry.over not in ("model", "corruption"):
            return
        rows = self._beside(row).drop_duplicates("cell")
        stored = {str(cell): one for cell in rows["cell"] if (one := self._stored(str(row["suite"]), str(cell))) is not None}
        known = {cell: one for cell, one in stored.items() if one.question.kind == "corruption" and not one.data.clips}
        counts = Counter(one.variant for one in known.values())
        ungraded = {variant for variant, count in counts.items() if count > 1 and not variant[1]}  # flips: averages leave them out
        known = {cell: one for cell, one in known.items() if one.variant not in ungraded}
        which = [str(row["scenario"])] if entry.over == "corruption" else []
        factors = factors_of_cells(resolve_metric(row["metric"]), list(known.values()), *which)
        by_cell = {str(one["cell"]): one for one in rows.to_dict("records")}
        for cell, factor in zip(known, factors, strict=False):
            if factor:
                yield _part(by_cell[cell], "error", -float(factor))

    def _stored(self, suite: str, cell: str) -> StoredCell | None:
        assert self._reader is not None, "there is a store"
        if not self._cells:
            self._cells = {(one.question.suite, one.question.cell): one for one in stored_cells(self._reader.store)}
        return self._cells.get((suite, cell))

    def _of_cell(self, suite: str, part: _Part) -> pd.Series:
        """(n,) how far each sample of a cell is classified correctly, or what its metric gives it, by sample; empty where it has none."""
        metric = "" if part.metric in _OF_CORRECTNESS else part.metric
        key = suite, part.cell, metric
        if key not in self._read:
            stored = self._stored(suite, part.cell)
            found = None if stored is None else self._shares_of(stored, metric) if metric else self._correct(stored)
            self._read[key] = pd.Series(dtype=np.float64) if found is None else found
        return self._read[key]

    def _correct(self, cell: StoredCell) -> pd.Series | None:
        assert self._reader is not None, "there is a store"
        known = self._errors.get((cell.question.suite, cell.question.cell))
        if known is not None:
            return pd.Series(~known.wrong, known.samples)
        read = self._reader.rows(cell.question, _COLUMNS)
        rows = read.rows
        if "pred" not in rows:
            return None
        shares = correct_share(rows)
        if "attacked" in rows:  # what was not attacked was misclassified before
            shares = np.where(rows["attacked"].fillna(False).astype(bool), shares, 0.0)
        return pd.Series(_bytes(shares), self._index(read.samples))

    def _shares_of(self, cell: StoredCell, name: str) -> pd.Series | None:
        """What a metric that is a share of all samples gives each; None for any other metric."""
        assert self._reader is not None, "there is a store"
        suite = cell.question.suite
        if not self._metrics:
            listed = {one: (*found.of_cells, *found.requested) for one, found in suite_metrics(self._reader.store).items()}
            self._metrics = {one: {each.label: each for each in some if isinstance(each, Metric)} for one, some in listed.items()}
        metric = self._metrics.get(suite, {}).get(name)
        if metric is None or metric.entry.over != "cell" or metric.entry.unit != "%":
            return None
        columns = sorted({"label", "pred", *DRAWN, *metric.entry.needs}) if metric.entry.needs else None
        read = self._reader.rows(cell.question, columns)
        rows = read.rows
        try:
            found = metric.of_cell(rows, cell_context(self._reader, cell)) if metric.applies(list(map(str, rows))) else None
        except MetricUndefined:
            return None
        if not isinstance(found, np.ndarray | pd.Series):
            return None
        values = np.asarray(found, dtype=np.float64)
        whole = len(values) == len(rows) and bool(((values >= 0) & (values <= 1)).all())
        return pd.Series(_bytes(values), self._index(read.samples)) if whole else None

    def _index(self, samples: pd.Series) -> pd.Index:
        """The same ids in memory once, as the reader has them, so that equal ones are known to be."""
        if id(samples) not in self._indexes:
            self._indexes[id(samples)] = samples, pd.Index(samples)
        return self._indexes[id(samples)][1]


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


def _bytes(values: np.ndarray) -> np.ndarray:
    """Values that are all zeros and ones as bool, a byte each; others as they are."""
    return values.astype(np.bool_) if bool(((values == 0.0) | (values == 1.0)).all()) else values


def _part(row: Mapping[Any, Any] | pd.Series, metric: str, weight: float) -> _Part:
    setting = tuple(str(row[name]) for name in ("data", "scenario", "severity", "params"))
    return _Part(setting, (str(row["plugins"]), str(row["contents"])), str(row["cell"]), metric, weight)


def _joined(series: Sequence[pd.Series]) -> tuple[pd.Index, np.ndarray]:
    """The samples that all have, and (series, n) their values."""
    first = series[0].index
    if all(one.index is first for one in series):
        return first, np.stack([one.to_numpy() for one in series])
    both = pd.concat(series, axis=1, join="inner")
    return both.index, both.to_numpy(dtype=np.float64).T
