"""The difference of a number of two stores, paired by sample: of one cell, of a mean over cells, or of a statistic that is resampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MetricUndefined
from robustvit.records.cells import RowReader, StoredCell, stored_cells
from robustvit.results.leaderboard import Leaderboard, suite_metrics
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import ShownNumber
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
from robustvit.statistics.estimates import Metric, resolve_metric
from robustvit.statistics.mean_intervals import linear_factors
from robustvit.statistics.resamples import Resampler


@dataclass(frozen=True)
class PairedSide:
    """The cells of a model on a suite in one store. key: its values of GROUP."""

    board: Leaderboard
    key: tuple[Any, ...]

    @cached_property
    def reader(self) -> RowReader:
        """What reads the rows of the store."""
        assert self.board.store is not None, "a leaderboard of a store"
        return RowReader(self.board.store, {})

    @cached_property
    def cells(self) -> dict[str, StoredCell]:
        """The cells by their ids."""
        own = dict(zip(GROUP, self.key, strict=True))
        found = stored_cells(self.reader.store, own["suite"])
        return {one.question.cell: one for one in found if all(getattr(one.question, name) == value for name, value in own.items())}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of the suite by their labels."""
        listed = suite_metrics(self.reader.store)[dict(zip(GROUP, self.key, strict=True))["suite"]]
        return {one.label: one for one in (*listed.of_cells, *listed.requested) if isinstance(one, Metric)}


class _Series(NamedTuple):
    """The differences of a number per sample: its difference is their mean."""

    key: str
    values: np.ndarray
    limit: float


class NumberPairing:
    """Pairs numbers of a model on a suite in two stores, sample by sample."""

    def __init__(self, a: PairedSide, b: PairedSide) -> None:
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
            return None if self.shared(a) else PairedDifference(b.facts["value"] - a.facts["value"])
        return found._replace(value=metric.scale * found.value, low=metric.scale * found.low, high=metric.scale * found.high)

    def shared(self, number: ShownNumber) -> int:
        """How many cells of a number both sides have, where one averages over others besides; else 0."""
        wanted = set(number.rows.loc[number.rows["cell"] == "", "scenario"])
        keys = [{key for key in keyed if wanted & {"", key[0][0]}} for keyed in self._keyed]
        graded = [{key for key in one if key[0][1]} for one in keys]  # averages leave the clean images out
        left, right = graded if any(graded) else keys
        return 0 if left == right else len(left & right)

    @cached_property
    def _keyed(self) -> list[dict[Any, str]]:
        """The corruptions of each side by what they are."""
        return [{_variant(one): cell for cell, one in half.cells.items() if one.question.kind == "corruption"} for half in self._sides]

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
        share = resolve_metric(metric.entry.of).entry.unit == "%"
        return _Series(keys.pop(), change, sum(map(abs, factors.values())) if share else math.inf)

    def _factors(self, metric: Metric, row: pd.Series) -> Mapping[tuple[str, str], float]:
        """The factors by which a metric over cells weights them, where they are the same on both sides; else {}."""
        results = self._results(metric, row)
        means = self._cell_means(metric.entry.of)
        if results is None or means is None:
            return {}
        which = _which(metric, row)
        before, after = (linear_factors(metric, one, result, *which) for one, result in zip(means, results, strict=True))
        plain = all(one is None or isinstance(one.values, np.ndarray) for side in means for one in map(side.cells.get, before))
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
        keyed = self._keyed
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
