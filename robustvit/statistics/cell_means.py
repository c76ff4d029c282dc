"""Means of one metric over the cells of a suite, with shared bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from robustvit.errors import MissingCells, NotApplicable
from robustvit.spec.grouping import grouped
from robustvit.statistics.estimates import Clustered, Metric, Weighted, certain_interval, weighted_statistic
from robustvit.statistics.intervals import LEVEL, Interval, wilson
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resampler, Resamples


def values_of(
    metric: Metric, records: pd.DataFrame, resamples: Resamples, resampler: Resampler, *, context: MetricContext | None = None
) -> Values:
    """The values of a per-cell metric on one cell, for averages. Raises NotApplicable where it leaves samples out or has no values."""
    result = metric.of_cell(resamples.in_order(records), context or MetricContext())
    if isinstance(result, Weighted):
        return Values(resamples.key, result)
    found = Values(resamples.key, result)
    if isinstance(result, Clustered):
        clusters = resampler(result.ids)
        found = Values(clusters.key, result.in_order(clusters.order))
    if isinstance(found.values, Weighted):
        return found
    if not isinstance(found.values, np.ndarray) or np.isnan(found.values).any():
        raise NotApplicable(f"'{metric.label}' is no mean over all samples of a cell")
    counts = ((found.values == 0.0) | (found.values == 1.0)).all()
    return Values(found.key, found.values.astype(np.bool_)) if counts else found  # a byte each, for as long as averages wait


@dataclass(frozen=True)
class Values:
    """The values of a metric per sample (or clip) of a complete cell, (n,) sorted by id, or its `Weighted`; key: of that set of ids.

    Values that are all zeros and ones are bool.
    """

    key: str
    values: np.ndarray | Weighted


@dataclass(frozen=True)
class CellMeans:
    """The mean of one metric (error, where a metric names no other in `of`) in every cell of a suite, and all its bootstrap replicates.

    Arrays of means are fractions with 1 + R entries on their last axis: the value, then its replicates. All cells share their resamples,
    so arithmetic on these arrays keeps the correlation between cells, and the interval of an average is right.

    suite: its name; data: the data set whose variants the cells are; classes: how many it has. cells: by (scenario, severity), every cell
    of the suite, None where it is not complete. repeated: cells that the suite has in several variants, which no average can choose from.
    spread: a cell whose samples all have the value 0, or all 1, has its Wilson interval for replicates, and not the one value. why: the
    reasons of cells that are None. given: means of the complete cells to compute with instead of theirs.
    """

    suite: str
    data: str
    classes: int
    cells: Mapping[tuple[str, str], Values | None]
    resampler: Resampler
    repeated: frozenset[tuple[str, str]] = frozenset()
    spread: bool = False
    why: Mapping[tuple[str, str], str] = field(default_factory=dict)
    given: Mapping[tuple[str, str], np.ndarray] | None = None

    def severities(self, scenario: str) -> list[str]:
        """The severities at which the suite has a scenario, in its order."""
        return [severity for name, severity in self.cells if name == scenario]

    def of(self, scenario: str, severities: Sequence[str] | None = None) -> np.ndarray:
        """(1 + R,) mean of a scenario, averaged over its severities (default: all of the suite).

        Raises NotApplicable where the suite does not have them, MissingCells where they are not complete.
        """
        return np.asarray(self.each([scenario], severities)[0])

    def apart(self, scenarios: Sequence[str]) -> np.ndarray:
        """(len(scenarios), 1 + R) means of scenarios without severity, whose samples may differ. Raises as `of` does, for all at once."""
        self._check_there([(name, "") for name in scenarios])
        return np.stack([self.of(name, [""]) for name in scenarios])

    def each(self, scenarios: Sequence[str], severities: Sequence[str] | None = None) -> np.ndarray:
        """(len(scenarios), 1 + R) means, each averaged over its severities. Raises as `of` does."""
        wanted = {name: list(severities if severities is not None else self.severities(name)) for name in scenarios}
        self._check([(name, severity) for name, levels in wanted.items() for severity in levels])
        return np.stack([np.mean([self.rates[name, severity] for severity in levels], axis=0) for name, levels in wanted.items()])

    def mean(self, scenarios: Sequence[str], severities: Sequence[str] | None = None) -> np.ndarray:
        """(1 + R,) mean over scenarios, each averaged over its severities. Raises as `of` does."""
        return np.asarray(self.each(scenarios, severities).mean(axis=0))

    def relative(self, reference: Mapping[str, float], severities: Sequence[str]) -> np.ndarray:
        """(1 + R,) mean over the scenarios of a reference, each averaged over severities and divided by its reference.

        Raises as `of` does.
        """
        return np.asarray((self.each(list(reference), severities) / np.array(list(reference.values()))[:, None]).mean(axis=0))

    def graded(self) -> list[str]:
        """The scenarios that the suite has at severities, in its order."""
        return list(dict.fromkeys(name for name, severity in self.cells if severity))

    def n(self) -> int:
        """How many samples the complete cells share."""
        return next((self.resampler.of(found.key).n for found in self.cells.values() if found is not None), 0)

    def _check_there(self, wanted: Sequence[tuple[str, str]]) -> None:
        absent = [cell for cell in wanted if cell not in self.cells]
        if absent or not wanted:
            raise NotApplicable(
                f"suite '{self.suite}' has {len(wanted) - len(absent)} of the {len(wanted)} cells that this average needs"
                + (f"; it lacks {_listed(absent)}" if absent else "")
            )
        repeated = [cell for cell in wanted if cell in self.repeated]
        if repeated:
            raise NotApplicable(f"suite '{self.suite}' has {_listed(repeated)} in several variants")
        lacking = [cell for cell in wanted if self.cells[cell] is None]
        if lacking:
            known = self.why.get(lacking[0], "")
            raise MissingCells(
                f"{len(wanted) - len(lacking)} of {len(wanted)} cells; lacking {_listed(lacking)}" + (f": {known}" if known else "")
            )

    def _check(self, wanted: Sequence[tuple[str, str]]) -> None:
        self._check_there(wanted)
        sizes = grouped((found.key, cell) for cell in wanted if (found := self.cells[cell]) is not None)
        if len(sizes) > 1:
            odd = min(sizes.values(), key=len)
            rest = next(cells for cells in sizes.values() if cells is not odd)
            raise MissingCells(
                f"the cells have different samples: {_listed(odd)} {self._size(odd[0])} of them, {_listed(rest)} {self._size(rest[0])}"
            )

    def _size(self, cell: tuple[str, str]) -> int:
        found = self.cells[cell]
        return 0 if found is None else self.resampler.of(found.key).n

    @cached_property
    def rates(self) -> Mapping[tuple[str, str], np.ndarray]:
        """(1 + R,) the mean of each complete cell: its value, then its replicates; or what is given in their place."""
        if self.given is not None:
            return self.given
        sets = grouped((found.key, cell) for cell, found in self.cells.items() if found is not None)
        return {cell: row for key, cells in sets.items() for cell, row in zip(cells, self._means(key, cells), strict=True)}

    def _means(self, key: str, cells: Sequence[tuple[str, str]]) -> np.ndarray:
        found = [one.values for cell in cells if (one := self.cells[cell]) is not None]
        plain = iter(self._plain_means(key, [one for one in found if isinstance(one, np.ndarray)]))
        return np.stack([self._weighted_mean(key, one) if isinstance(one, Weighted) else next(plain) for one in found])

    def _weighted_mean(self, key: str, result: Weighted) -> np.ndarray:
        resamples = self.resampler.of(key)
        found = weighted_statistic(result, resamples.weights)
        ends = certain_interval(result, found, resamples.n if result.counted is None else result.counted) if self.spread else None
        return found if ends is None else np.append(found[:1], _ramp(ends, len(found) - 1))

    def _plain_means(self, key: str, many: Sequence[np.ndarray]) -> np.ndarray:
        if not many:
            return np.zeros((0, 0))
        values = np.stack(many)
        weights = self.resampler.of(key).weights
        replicates = (values.astype(weights.dtype) @ weights.T).astype(np.float64) / values.shape[1]
        if self.spread:
            flat = (values == values[:, :1]).all(axis=1) & np.isin(values[:, 0], (0.0, 1.0))
            for i in np.flatnonzero(flat):
                replicates[i] = _ramp(wilson(float(values[i].sum()), values.shape[1]), replicates.shape[1])
        return np.concatenate([values.mean(axis=1, keepdims=True), replicates], axis=1)


def _ramp(interval: Interval, count: int) -> np.ndarray:
    """Evenly spaced replicates whose middle 95 % is the interval, to the bit."""
    edge = (1 - LEVEL) / 2 + 1 / count
    return np.interp(np.linspace(0.0, 1.0, count), [edge, 1 - edge], interval)


def _listed(cells: Sequence[tuple[str, str]]) -> str:
    named = [f"{name} {severity}".strip() for name, severity in cells]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
