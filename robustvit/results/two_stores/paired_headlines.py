"""The headline numbers of two leaderboards side by side, with differences that are paired by sample where they can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MetricUndefined
from robustvit.records.cells import RowReader, StoredCell, stored_cells
from robustvit.results.leaderboard import GROUP, Leaderboard, suite_metrics
from robustvit.results.paired_cells import OF_RUNS, side_by_side
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.results.two_stores.paired_values import (
    PairedDifference,
    PairedValues,
    SideReader,
    difference_of,
    difference_of_replicates,
    mean_difference,
    paired_values,
)
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import SHARES, Metric, resolve_metric
from robustvit.statistics.intervals import Resampler
from robustvit.statistics.mean_intervals import linear_factors


class NumberPair(NamedTuple):
    """A headline number of both sides, None where one does not have it. difference: None where there is none."""

    title: str
    a: ShownNumber | None
    b: ShownNumber | None
    difference: PairedDifference | None


class HeadlineGroup(NamedTuple):
    """The headline numbers of one model on one suite. about: its columns of GROUP, as a has them, or b where a does not."""

    about: Mapping[str, Any]
    numbers: Sequence[NumberPair]


def paired_headlines(a: Leaderboard, b: Leaderboard) -> list[HeadlineGroup]:
    """The headline numbers of two stores by model and suite, matched as `diff` matches cells; a model's own view may differ.

    A difference is paired where the number is a mean over samples, or a statistic that is resampled from them, of one cell or of several
    (mCE, say): it is taken over the samples that both sides have, and its interval is that of the differences. Of other numbers it is the
    plain difference, without an interval. A number without a value on one side has none, nor has one of a chain of attacks that one side
    has come further along.
    """
    left, right = _groups(a), _groups(b)
    free = (*OF_RUNS, "model_view")
    found = []
    for first, second in side_by_side(left, right, lambda key: tuple(v for name, v in zip(GROUP, key, strict=True) if name not in free)):
        about = dict(zip(GROUP, first or second or (), strict=True))
        numbers = [{} if key is None else _numbers(rows[key]) for key, rows in ((first, left), (second, right))]
        sides = None if first is None or second is None else _Pairing(_Half(a, first), _Half(b, second))
        pairs = side_by_side(numbers[0], numbers[1], lambda key: key)
        found.append(HeadlineGroup(about, [_pair(numbers[0].get(x), numbers[1].get(y), sides) for x, y in pairs]))
    return found


def _groups(board: Leaderboard) -> dict[tuple[Any, ...], pd.DataFrame]:
    return dict(iter(board.rows.groupby(list(GROUP), sort=False)))


def _numbers(rows: pd.DataFrame) -> dict[Any, ShownNumber]:
    """The headline numbers by what their rows are of: titles may depend on what else a side has."""
    columns = ["data", "scenario", "severity", "params", "metric"]
    return {tuple(map(tuple, one.rows[columns].to_numpy().tolist())): one for one in headline_numbers(rows)}


def _pair(a: ShownNumber | None, b: ShownNumber | None, sides: _Pairing | None) -> NumberPair:
    known = a or b
    assert known is not None, "a pair has a side"
    difference = None if a is None or b is None or sides is None else sides.difference(a, b)
    return NumberPair(known.title, a, b, difference)


@dataclass(frozen=True)
class _Half:
    """One side of a group."""

    board: Leaderboard
    key: tuple[Any, ...]

    @cached_property
    def reader(self) -> RowReader:
        assert self.board.store is not None, "a leaderboard of a store"
        return RowReader(self.board.store, {})

    @cached_property
    def cells(self) -> dict[str, StoredCell]:
        own = dict(zip(GROUP, self.key, strict=True))
        found = stored_cells(self.reader.store, own["suite"])
        return {one.question.cell: one for one in found if all(getattr(one.question, name) == value for name, value in own.items())}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        listed = suite_metrics(self.reader.store)[dict(zip(GROUP, self.key, strict=True))["suite"]]
        return {one.label: one for one in (*listed.of_cells, *listed.requested) if isinstance(one, Metric)}


class _Series(NamedTuple):
    """The differences of a number per sample: its difference is their mean."""

    key: str
    values: np.ndarray
    limit: float


class _Pairing:
    """Pairs the numbers of two sides of a group."""

    def __init__(self, a: _Half, b: _Half) -> None:
        self._sides = a, b
        self._resampler = Resampler()
        self._means: dict[str, tuple[CellMeans, CellMeans] | None] = {}

    def difference(self, a: ShownNumber, b: ShownNumber) -> PairedDifference | None:
        """The difference of two numbers of the same rows, in their unit."""
        rows = [one.rows for one in (a, b)]
        if any(one["value"].isna().any() for one in rows) or self._at_other_steps(*rows):
            return None
        metric = self._sides[0].metrics.get(a.metric)
        found = None if metric is None else self._found(metric, *rows)
        if found is None or metric is None:
            return PairedDifference(b.facts["value"] - a.facts["value"])
        return PairedDifference(*(metric.scale * number for number in found[:3]), found.n)

    def _at_other_steps(self, a: pd.DataFrame, b: pd.DataFrame) -> bool:
        """Whether a number is of a chain of attacks that one side has come further along."""
        cells = ([half.cells.get(str(cell)) for cell in rows["cell"]] for half, rows in zip(self._sides, (a, b), strict=True))
        return any(x is not None and y is not None and x.question.link != y.question.link for x, y in zip(*cells, strict=True))

    def _found(self, metric: Metric, a: pd.DataFrame, b: pd.DataFrame) -> PairedDifference | None:
        if metric.entry.over == "cell" and len(a) == 1:
            values = self._values(metric, str(a["cell"].iloc[0]), str(b["cell"].iloc[0]))
            return None if values is None else difference_of(values, self._resampler.of(values.key))
        parts = [self._series(metric, x, y) for (_, x), (_, y) in zip(a.iterrows(), b.iterrows(), strict=True)]
        series = [one for one in parts if one is not None]
        if len(series) == len(parts) and len({one.key for one in series}) == 1:
            mean, limit = np.mean([one.values for one in series], axis=0), float(np.mean([one.limit for one in series]))
            return mean_difference(mean, limit, self._resampler.of(series[0].key).weights)
        return self._replicated(metric, a.iloc[0]) if len(a) == 1 else None

    def _values(self, metric: Metric, a: str, b: str) -> PairedValues | None:
        left, right = (half.cells.get(cell) for half, cell in zip(self._sides, (a, b), strict=True))
        if left is None or right is None:
            return None
        sides = SideReader(self._sides[0].reader, left), SideReader(self._sides[1].reader, right)
        return paired_values(metric, *sides, self._resampler)

    def _series(self, metric: Metric, a: pd.Series, b: pd.Series) -> _Series | None:
        """The differences per sample of a number that is a mean over samples, or a weighted sum of such means over cells."""
        if metric.entry.over == "cell":
            values = self._values(metric, str(a["cell"]), str(b["cell"]))
            if values is None or not isinstance(values.a, np.ndarray) or not isinstance(values.b, np.ndarray):
                return None
            change = values.b - values.a
            return None if np.isnan(change).any() else _Series(values.key, change, values.limit)
        factors = self._factors(metric, a)
        means = self._cell_means(metric.entry.of) if factors else None
        if means is None:
            return None
        found = [(factor, means[0].cells[cell], means[1].cells[cell]) for cell, factor in factors.items()]
        keys = {one.key for _, *both in found for one in both if one is not None}
        if len(keys) != 1:
            return None
        change = np.sum([factor * (_array(after) - _array(before)) for factor, before, after in found], axis=0)
        share = resolve_metric(metric.entry.of).entry.unit in SHARES
        return _Series(keys.pop(), change, sum(map(abs, factors.values())) if share else math.inf)

    def _factors(self, metric: Metric, row: pd.Series) -> Mapping[tuple[str, str], float]:
        """The factors by which a metric over cells weights them, where they are the same on both sides; else {}."""
        results = self._results(metric, row)
        means = self._cell_means(metric.entry.of)
        if results is None or means is None:
            return {}
        which = _which(metric, row)
        before, after = (linear_factors(metric, one, result, *which) for one, result in zip(means, results, strict=True))
        plain = all(isinstance(side.cells[cell].values, np.ndarray) for side in means for cell in before if side.cells[cell] is not None)
        same = before.keys() == after.keys() and all(math.isclose(before[cell], after[cell], rel_tol=1e-9) for cell in before)
        return before if plain and same else {}

    def _replicated(self, metric: Metric, row: pd.Series) -> PairedDifference | None:
        """The difference of a metric over cells that is no weighted sum of them, from resamples of the samples of both sides."""
        results, means = self._results(metric, row), self._cell_means(metric.entry.of)
        if results is None or means is None or len({one.key for side in means for one in side.cells.values() if one is not None}) != 1:
            return None
        return difference_of_replicates(results[1] - results[0], means[0].n())

    def _results(self, metric: Metric, row: pd.Series) -> list[np.ndarray] | None:
        means = self._cell_means(metric.entry.of) if metric.entry.over in ("corruption", "model") else None
        try:
            return None if means is None else [metric.compute(one, *_which(metric, row)) for one in means]
        except MetricUndefined:
            return None

    def _cell_means(self, name: str) -> tuple[CellMeans, CellMeans] | None:
        """The means of a metric over all corruptions that both sides have, on the samples that both have of each."""
        if name not in self._means:
            self._means[name] = self._read_means(resolve_metric(name))
        return self._means[name]

    def _read_means(self, metric: Metric) -> tuple[CellMeans, CellMeans] | None:
        keyed = [{_variant(one): cell for cell, one in half.cells.items() if one.question.kind == "corruption"} for half in self._sides]
        shared = [key for key in keyed[0] if key in keyed[1]]
        variants = [variant for variant, *_ in shared]
        if not shared or len(set(variants)) < len(variants):
            return None
        values = {key[0]: self._values(metric, keyed[0][key], keyed[1][key]) for key in shared}
        first = next(iter(self._sides[0].cells.values()))
        sides = [
            {variant: None if one is None or _hollow(one) else Values(one.key, getattr(one, side)) for variant, one in values.items()}
            for side in ("a", "b")
        ]
        about = first.question.suite, first.question.base, first.data.classes
        return CellMeans(*about, sides[0], self._resampler), CellMeans(*about, sides[1], self._resampler)


def _variant(cell: StoredCell) -> tuple[tuple[str, str], str, str]:
    return cell.variant, cell.question.params, cell.question.data


def _which(metric: Metric, row: pd.Series) -> tuple[str, ...]:
    return (str(row["scenario"]),) if metric.entry.over == "corruption" else ()


def _hollow(values: PairedValues) -> bool:
    """Whether a sample has no value."""
    return any(isinstance(one, np.ndarray) and bool(np.isnan(one).any()) for one in (values.a, values.b))


def _array(values: Values | None) -> np.ndarray:
    assert values is not None, "a factor is of a cell that is there"
    return np.asarray(values.values)
