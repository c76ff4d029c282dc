"""From the values that a metric computes to an estimate with its interval.

A metric is a plain function under `@metric(…)`; `over` says of what.

over="cell" (the default): `(records) -> result` or `(records, context) -> result`, where records is the DataFrame of one cell, sorted by
sample, and context a MetricContext. The result is

* one value per sample, (n,): the metric is their mean. NaN leaves a sample out of the denominator. Zeros and ones get a Wilson interval,
  other values a bootstrap;
* a `Weighted`: a statistic of weighted samples, (R, n) weights at a time;
* a `Clustered`: one value for each cluster of samples (a clip of frames, a group that is measured together), or a `Weighted` of clusters;
  these are resampled whole;
* an `IntervalEstimate`: the value, an interval of the metric's own, and n;
* a float: resampled by calling the metric again on drawn rows, which is slow and always right.

over="corruption": `(errors: CellMeans, corruption: str) -> (1 + R,)`, once for every corruption with severities.
over="model": `(errors: CellMeans) -> (1 + R,)`, once for all cells of a model. `of` names the metric of a cell that the means are of,
default `error`; its result is one value per sample, clustered, or a `Weighted`. See CellMeans.

`needs` names the columns that a metric reads, `{score}` standing for the value of its parameter score; a cell without them is not scored
by it. Where the unit is %, metrics return fractions.
A metric that has no value raises NotApplicable or MissingCells with the reason, which tables show.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec, parse, plain
from robustvit.statistics.intervals import Interval, settled, wilson
from robustvit.statistics.metric_context import MetricContext

SHARES = ("%", "")  # units of metrics whose zeros and ones are counts, and not measurements
_PREDICTED = ("label", "pred")  # what a metric reads that does not declare its columns
_NO_CONTEXT = MetricContext()


class IntervalEstimate(NamedTuple):
    """A value, its 95 % interval, and the number of samples that it is computed from; in its metric's unit (of a metric: as fractions)."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Weighted:
    """A statistic of weighted samples: `of` maps (R, n) weights to (R,) values, NaN where a resample drew nothing that counts.

    low, high: the ends of its range. counted: the number of samples it is computed from, where these are not all. centred: its resamples
    are moved, within its range, to lie about the value. Right for averages of parts that resampling biases all to one side, such as squares
    of differences: that bias does not average out, and would leave the value outside its interval.
    """

    of: Callable[[np.ndarray], np.ndarray]
    low: float = -np.inf
    high: float = np.inf
    counted: int | None = None
    centred: bool = False


@dataclass(frozen=True)
class Clustered:
    """One value for each cluster of samples, (n,), NaN where it is left out, or a statistic of weighted clusters; and their names."""

    ids: Sequence[str]
    values: np.ndarray | Weighted

    def in_order(self, order: np.ndarray) -> np.ndarray | Weighted:
        """The values of the clusters at these places; of a statistic, that whose weights are of the clusters so ordered."""
        if isinstance(self.values, np.ndarray):
            return np.asarray(self.values[order])
        of, places = self.values.of, np.argsort(order)
        return replace(self.values, of=lambda weights: of(weights[:, places]))


@dataclass(frozen=True)
class Metric:
    """A registered metric with its parameters filled in. `label` names it in tables: `ece`, `ece(bins=30)`."""

    label: str
    entry: Entry
    compute: Callable[..., Any]

    def of_cell(self, records: pd.DataFrame, context: MetricContext = _NO_CONTEXT) -> Any:
        """What the metric returns for the rows of one cell; context: passed on where it takes a second positional parameter."""
        return self.compute(records, context) if self._takes_context else self.compute(records)

    @functools.cached_property
    def _takes_context(self) -> bool:
        parameters = inspect.signature(self.compute).parameters.values()
        return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters) > 1

    @property
    def scale(self) -> float:
        """The factor that brings the metric's result to its unit."""
        return 100.0 if self.entry.unit == "%" else 1.0

    def lacks(self, columns: Sequence[str]) -> list[str]:
        """The columns it needs that a cell with these does not have."""
        return sorted(set(self.entry.needs or _PREDICTED) - set(columns))

    def applies(self, columns: Sequence[str]) -> bool:
        """Whether a cell with these columns can be scored."""
        return not self.lacks(columns)

    def missing(self, cells: Iterable[Sequence[str]]) -> str:
        """Why none of some cells, each given by its columns, can be scored; "" where one can."""
        lacks: list[str] = min((self.lacks(columns) for columns in cells if columns), key=len, default=[])
        if not lacks:
            return ""
        hint = " Run with --keep logits." if "logits" in lacks else ""
        if "clean_pred" in lacks and not hint:
            hint = " Run `clean`, too, for the same model and data."
        if any(name.startswith("fact_") for name in lacks):
            hint = f" Only some data sets have such facts: see `robustvit list metrics {self.entry.name}` and `robustvit data`."
        return f"no cell has the column{'s' if len(lacks) > 1 else ''} {', '.join(lacks)}.{hint}"


def resolve_metric(node: object) -> Metric:
    """The metric that a name, a `{name: {parameter: value}}` or a Spec stands for. Raises UnknownName or BadParameter."""
    (spec,) = parse(node)
    entry = registry.lookup("metric", spec.name, spec.where)
    bound = bind(entry, spec)
    usual = {param.name: param.default for param in entry.params}
    unusual = tuple((key, value) for key, value in bound.params if usual[key] != value)
    arguments = {key: plain(value) for key, value in bound.params}
    needs = tuple(dict.fromkeys(column.format(**arguments) for column in entry.needs))
    return Metric(str(Spec(entry.name, unusual)), replace(entry, needs=needs), functools.partial(entry.load(), **arguments))


def of_measurements(label: str) -> bool:
    """Whether the metric of this label reads measurements of an analysis (`value_…`), and not predictions or costs."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and known.family != "cost" and any(column.startswith("value_") for column in known.needs)


def of_scores(label: str) -> bool:
    """Whether the metric of this label is a measurement of which more or less is better, and no point of a curve."""
    return of_measurements(label) and not describes(label) and not on_curve(label)


def describes(label: str) -> bool:
    """Whether neither more nor less of the metric of this label is better."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and known.descriptive


def on_curve(label: str) -> bool:
    """Whether the metric of this label is a point of a curve: at one value of the parameter that it is drawn over."""
    name, _, parameters = label.partition("(")
    known = registry.entries("metric").get(name)
    return known is not None and bool(known.curve) and f"{known.curve}=" in parameters


def of_costs(label: str) -> bool:
    """Whether the metric of this label is of what an image costs a model, which stands beside whatever was done to the image."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and known.family == "cost"


def of_votes(label: str) -> bool:
    """Whether the metric of this label reads the votes or the radius of a certificate."""
    known = registry.entries("metric").get(label.partition("(")[0])
    return known is not None and bool({"votes", "radius", "patch_held"} & set(known.needs))


def in_unit(metric: Metric, estimate: IntervalEstimate) -> IntervalEstimate:
    """The estimate in the unit of its metric."""
    ends = settled(Interval(metric.scale * estimate.low, metric.scale * estimate.high))
    return IntervalEstimate(metric.scale * estimate.value, *ends, estimate.n)


def certain_interval(result: Weighted, found: np.ndarray, n: int) -> Interval | None:
    """The Wilson interval of a share that is 0, or 1, in all resamples, which give none; None for any other statistic."""
    known = found[~np.isnan(found)]
    if (result.low, result.high) != (0.0, 1.0) or known[0] not in (0.0, 1.0) or np.ptp(known) > 0:
        return None
    return wilson(n * float(known[0]), n)


def weighted_statistic(result: Weighted, weights: np.ndarray) -> np.ndarray:
    """(1 + R,) the statistic of all samples, once each, and of the resamples."""
    value, replicates = result.of(np.ones((1, weights.shape[1]))), result.of(weights)
    if result.centred:
        replicates = np.clip(replicates + (value - np.nanmean(replicates)), result.low, result.high)
    return np.concatenate([value, replicates])
