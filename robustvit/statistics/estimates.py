"""From what a metric says to a value with its interval.

A metric is a plain function of Records under `@metric(…)`; `over` says what it is asked of.

over="cell" (the default): `(records) -> answer`, where records is the DataFrame of one cell, sorted by sample. The answer is

* one value per sample, (n,): the metric is their mean. NaN leaves a sample out of the denominator. Zeros and ones get a Wilson interval,
  other values a bootstrap;
* a `Weighted`: a statistic that knows how to be resampled, (R, n) weights at a time;
* a `Clustered`: one value for each cluster of samples (a clip of frames), which are resampled whole;
* a float: resampled by calling the metric again on drawn rows, which is slow and always right.

over="corruption": `(errors: CellMeans, corruption: str) -> (1 + R,)`, once for every corruption with severities.
over="model": `(errors: CellMeans) -> (1 + R,)`, once for all cells of a model. `of` names the metric of a cell that the means are of,
default `error`; it answers one value per sample, clustered, or a `Weighted`. See CellMeans.

`needs` names the columns a metric reads; a cell without them is not asked. Where the unit is %, metrics answer in fractions.
A metric that has no value raises NotApplicable or MissingCells with the reason, which tables show.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MissingCells, NotApplicable
from robustvit.spec import registry
from robustvit.spec.registry import Entry
from robustvit.spec.spec import Spec, parse, plain
from robustvit.statistics.intervals import LEVEL, Interval, Resampler, Resamples, percentile, reflected, settled, wilson

_SLOW_REPLICATES = 200  # of a metric that can only be called again
_SHARES = ("%", "")  # units of metrics whose zeros and ones are counted, and not measured
_JUDGED = ("label", "pred")  # what a cell must have to be asked a metric that does not say what it needs


class Estimate(NamedTuple):
    """A value in its metric's unit, its 95 % interval, and the number of samples it stands on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Weighted:
    """A statistic of weighted samples: `of` takes (R, n) weights and gives (R,) values, NaN where a resample drew nothing that counts.

    low, high: the ends of its range. counted: the samples it stands on, where these are not all. centred: its resamples are moved, within
    its range, to lie about the value. Right for averages of parts that resampling pushes all to one side, such as squares of differences:
    that push does not average out, and would leave the value outside its interval.
    """

    of: Callable[[np.ndarray], np.ndarray]
    low: float = -np.inf
    high: float = np.inf
    counted: int | None = None
    centred: bool = False


@dataclass(frozen=True)
class Clustered:
    """One value for each cluster of samples, (n,), and the clusters' names. NaN leaves a cluster out."""

    ids: Sequence[str]
    values: np.ndarray


@dataclass(frozen=True)
class Metric:
    """A registered metric with its parameters filled in. `label` names it in tables: `ece`, `ece(bins=30)`."""

    label: str
    entry: Entry
    ask: Callable[..., Any]

    @property
    def scale(self) -> float:
        """What an answer is multiplied by to be in the metric's unit."""
        return 100.0 if self.entry.unit == "%" else 1.0

    def lacks(self, columns: Sequence[str]) -> list[str]:
        """The columns it needs that a cell with these does not have."""
        return sorted(set(self.entry.needs or _JUDGED) - set(columns))

    def applies(self, columns: Sequence[str]) -> bool:
        """Whether a cell with these columns can be asked."""
        return not self.lacks(columns)


def metric(node: object) -> Metric:
    """The metric that a name, a `{name: {parameter: value}}` or a Spec stands for. Raises UnknownName or BadParameter."""
    (spec,) = parse(node)
    entry = registry.lookup("metric", spec.name, spec.where)
    bound = registry.bind(entry, spec)
    usual = {param.name: param.default for param in entry.params}
    unusual = tuple((key, value) for key, value in bound.params if usual[key] != value)
    arguments = {key: plain(value) for key, value in bound.params}
    return Metric(str(Spec(entry.name, unusual)), entry, functools.partial(entry.load(), **arguments))


def of_measurements(label: str) -> bool:
    """Whether the metric of this label reads what an analysis measured (`value_…`), and not what a model answered."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and any(column.startswith("value_") for column in known.needs)


def of_votes(label: str) -> bool:
    """Whether the metric of this label reads the votes or the radius of a certificate."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and bool({"votes", "radius", "patch_held"} & set(known.needs))


def judge(asked: Metric, records: pd.DataFrame, resamples: Resamples, resampler: Resampler | None = None) -> Estimate:
    """What a per-cell metric makes of one cell. records: rows as stored; resamples: of their samples, in that order.

    resampler: hands out the resamples of clusters. Raises NotApplicable where no sample counts.
    """
    rows = records.iloc[resamples.order].reset_index(drop=True)
    rows.attrs = records.attrs
    answer, share = asked.ask(rows), asked.entry.unit in _SHARES
    if isinstance(answer, Clustered):
        clusters = (resampler or Resampler())(answer.ids)
        estimate = _mean(answer.values[clusters.order], clusters, share)
    elif isinstance(answer, Weighted):
        estimate = _weighted(answer, resamples)
    elif isinstance(answer, np.ndarray | pd.Series):
        estimate = _mean(np.asarray(answer, dtype=np.float64), resamples, share)
    else:
        estimate = _called_again(asked, float(answer), rows, resamples)
    return _in_unit(asked, estimate)


def values_of(asked: Metric, records: pd.DataFrame, resamples: Resamples, resampler: Resampler) -> Values:
    """What a per-cell metric makes of one cell, for averages. Raises NotApplicable where it leaves samples out, or cannot be resampled."""
    answer = asked.ask(records.iloc[resamples.order].reset_index(drop=True))
    if isinstance(answer, Weighted):
        return Values(resamples.key, answer)
    found = Values(resamples.key, answer)
    if isinstance(answer, Clustered):
        clusters = resampler(answer.ids)
        found = Values(clusters.key, answer.values[clusters.order])
    if not isinstance(found.values, np.ndarray) or np.isnan(found.values).any():
        raise NotApplicable(f"'{asked.label}' is no mean over all samples of a cell")
    return found


def joined(asked: Metric, means: CellMeans, *which: str) -> Estimate:
    """What a metric over several cells makes of them; `which`: the corruption it is asked of.

    Where nothing varies, since every sample has the same value in every cell, resampling knows no interval: the cells' Wilson intervals give one.
    """
    answer = asked.ask(means, *which)
    if np.ptp(answer[~np.isnan(answer)]) == 0.0:
        answer = np.append(answer[:1], asked.ask(replace(means, spread=True), *which)[1:])
    return _in_unit(asked, Estimate(float(answer[0]), *percentile(answer[1:]), means.n()))


def _in_unit(asked: Metric, estimate: Estimate) -> Estimate:
    ends = settled(Interval(asked.scale * estimate.low, asked.scale * estimate.high))
    return Estimate(asked.scale * estimate.value, *ends, estimate.n)


def _mean(values: np.ndarray, resamples: Resamples, share: bool) -> Estimate:
    counted = ~np.isnan(values)
    n = int(counted.sum())
    if n == 0:
        raise NotApplicable("no sample counts in its denominator")
    kept = values[counted]
    value = float(kept.mean())
    if share and bool(np.isin(kept, (0.0, 1.0)).all()):
        return Estimate(value, *wilson(float(kept.sum()), n), n)
    if np.ptp(kept) == 0:
        return Estimate(value, value, value, n)
    weights = resamples.weights if n == len(values) else resamples.weights[:, counted]
    totals = weights.sum(axis=1)
    drawn = totals > 0  # a replicate may miss every sample that counts
    return Estimate(value, *percentile((weights @ kept.astype(weights.dtype))[drawn] / totals[drawn]), n)


def _weighted(answer: Weighted, resamples: Resamples) -> Estimate:
    found = _statistic(answer, resamples.weights)
    value, n = float(found[0]), resamples.n if answer.counted is None else answer.counted
    low, high = np.clip(_certain(answer, found, n) or reflected(value, found[1:]), answer.low, answer.high)
    return Estimate(value, float(low), float(high), n)


def _certain(answer: Weighted, found: np.ndarray, n: int) -> Interval | None:
    """The Wilson interval of a share that is 0, or 1, in all resamples alike, which know none; None for any other statistic."""
    known = found[~np.isnan(found)]
    if (answer.low, answer.high) != (0.0, 1.0) or known[0] not in (0.0, 1.0) or np.ptp(known) > 0:
        return None
    return wilson(n * float(known[0]), n)


def _called_again(asked: Metric, value: float, rows: pd.DataFrame, resamples: Resamples) -> Estimate:
    drawn = (np.repeat(np.arange(resamples.n), counts.astype(np.intp)) for counts in resamples.weights[:_SLOW_REPLICATES])
    interval: Interval = reflected(value, np.array([float(asked.ask(rows.iloc[index].reset_index(drop=True))) for index in drawn]))
    return Estimate(value, *interval, resamples.n)


@dataclass(frozen=True)
class Values:
    """What a metric gives each sample (or clip) of a complete cell, (n,) sorted by id, or their `Weighted`; key: of that set of ids."""

    key: str
    values: np.ndarray | Weighted


@dataclass(frozen=True)
class CellMeans:
    """The mean of one metric (error, where a metric names no other in `of`) in every cell of a suite, and all its bootstrap replicates.

    Arrays of means are fractions with 1 + R entries on their last axis: the value, then its replicates. All cells share their resamples,
    so arithmetic on these arrays keeps what the cells have in common, and the interval of an average is right.

    suite: its name; data: the data set whose variants the cells are; classes: how many it has. cells: by (scenario, severity), every cell the suite asks, None where it is not
    complete. repeated: cells asked in several variants, which no average can choose from. spread: a cell whose samples all have the value 0, or
    all 1, has its Wilson interval for replicates, and not the one value. why: what is known of cells that are None.
    """

    suite: str
    data: str
    classes: int
    cells: Mapping[tuple[str, str], Values | None]
    resampler: Resampler
    repeated: frozenset[tuple[str, str]] = frozenset()
    spread: bool = False
    why: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def severities(self, scenario: str) -> list[str]:
        """The severities at which the suite asks a scenario, in its order."""
        return [severity for name, severity in self.cells if name == scenario]

    def of(self, scenario: str, severities: Sequence[str] | None = None) -> np.ndarray:
        """(1 + R,) mean of a scenario, averaged over its severities (default: all that the suite asks).

        Raises NotApplicable where the suite does not ask them, MissingCells where they are not complete.
        """
        mean: np.ndarray = self.each([scenario], severities)[0]
        return mean

    def apart(self, scenarios: Sequence[str]) -> np.ndarray:
        """(len(scenarios), 1 + R) means of scenarios without severity, whose samples may differ. Raises as `of` does, for all at once."""
        self._check_there([(name, "") for name in scenarios])
        return np.stack([self.of(name, [""]) for name in scenarios])

    def each(self, scenarios: Sequence[str], severities: Sequence[str] | None = None) -> np.ndarray:
        """(len(scenarios), 1 + R) means, each averaged over its severities. Raises as `of` does."""
        wanted = {name: list(severities if severities is not None else self.severities(name)) for name in scenarios}
        self._check([(name, severity) for name, levels in wanted.items() for severity in levels])
        return np.stack([np.mean([self._rates[name, severity] for severity in levels], axis=0) for name, levels in wanted.items()])

    def n(self) -> int:
        """How many samples the complete cells share."""
        return next((self.resampler.of(found.key).n for found in self.cells.values() if found is not None), 0)

    def _check_there(self, wanted: Sequence[tuple[str, str]]) -> None:
        unasked = [cell for cell in wanted if cell not in self.cells]
        if unasked or not wanted:
            raise NotApplicable(
                f"suite '{self.suite}' asks {len(wanted) - len(unasked)} of the {len(wanted)} cells that this average needs"
                + (f"; it lacks {_listed(unasked)}" if unasked else "")
            )
        repeated = [cell for cell in wanted if cell in self.repeated]
        if repeated:
            raise NotApplicable(f"suite '{self.suite}' asks {_listed(repeated)} in several variants")
        lacking = [cell for cell in wanted if self.cells[cell] is None]
        if lacking:
            known = self.why.get(lacking[0], "")
            raise MissingCells(
                f"{len(wanted) - len(lacking)} of {len(wanted)} cells; lacking {_listed(lacking)}" + (f": {known}" if known else "")
            )

    def _check(self, wanted: Sequence[tuple[str, str]]) -> None:
        self._check_there(wanted)
        sizes: dict[str, list[tuple[str, str]]] = {}
        for cell in wanted:
            sizes.setdefault(self.cells[cell].key, []).append(cell)  # type: ignore[union-attr]
        if len(sizes) > 1:
            odd = min(sizes.values(), key=len)
            rest = next(cells for cells in sizes.values() if cells is not odd)
            raise MissingCells(
                f"the cells answer different samples: {_listed(odd)} {self._size(odd[0])} of them, {_listed(rest)} {self._size(rest[0])}"
            )

    def _size(self, cell: tuple[str, str]) -> int:
        found = self.cells[cell]
        return 0 if found is None else self.resampler.of(found.key).n

    @cached_property
    def _rates(self) -> dict[tuple[str, str], np.ndarray]:
        sets: dict[str, list[tuple[str, str]]] = {}
        for cell, found in self.cells.items():
            if found is not None:
                sets.setdefault(found.key, []).append(cell)
        return {cell: row for key, cells in sets.items() for cell, row in zip(cells, self._means(key, cells), strict=True)}

    def _means(self, key: str, cells: Sequence[tuple[str, str]]) -> np.ndarray:
        found = [one.values for cell in cells if (one := self.cells[cell]) is not None]
        plain = iter(self._plain_means(key, [one for one in found if isinstance(one, np.ndarray)]))
        return np.stack([self._weighted_mean(key, one) if isinstance(one, Weighted) else next(plain) for one in found])

    def _weighted_mean(self, key: str, answer: Weighted) -> np.ndarray:
        resamples = self.resampler.of(key)
        found = _statistic(answer, resamples.weights)
        ends = _certain(answer, found, resamples.n if answer.counted is None else answer.counted) if self.spread else None
        return found if ends is None else np.append(found[:1], _ramp(ends, len(found) - 1))

    def _plain_means(self, key: str, many: Sequence[np.ndarray]) -> np.ndarray:
        if not many:
            return np.zeros((0, 0))
        values = np.stack(many)
        weights = self.resampler.of(key).weights
        replicates = (values.astype(weights.dtype) @ weights.T).astype(np.float64) / values.shape[1]
        if self.spread:
            flat = np.isin(values, (0.0, 1.0)).all(axis=1) & (np.ptp(values, axis=1) == 0)
            for i in np.flatnonzero(flat):
                replicates[i] = _ramp(wilson(float(values[i].sum()), values.shape[1]), replicates.shape[1])
        return np.concatenate([values.mean(axis=1, keepdims=True), replicates], axis=1)


def _statistic(answer: Weighted, weights: np.ndarray) -> np.ndarray:
    """(1 + R,) the statistic of all samples, once each, and of the resamples."""
    value, replicates = answer.of(np.ones((1, weights.shape[1]))), answer.of(weights)
    if answer.centred:
        replicates = np.clip(replicates + (value - np.nanmean(replicates)), answer.low, answer.high)
    return np.concatenate([value, replicates])


def _ramp(interval: Interval, count: int) -> np.ndarray:
    """Evenly spaced replicates whose middle 95 % is the interval, to the bit."""
    edge = (1 - LEVEL) / 2 + 1 / count
    return np.interp(np.linspace(0.0, 1.0, count), [edge, 1 - edge], interval)


def _listed(cells: Sequence[tuple[str, str]]) -> str:
    named = [f"{name} {severity}".strip() for name, severity in cells]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
