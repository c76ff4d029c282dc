"""Metrics over several cells, with their intervals.

Nearly all of them are weighted sums of the cells' means (mCE, gaps, areas), and so a mean of one value per sample, for which there are
better intervals than that of resamples of an unknown function. Such a metric is told by its values: what it gives of one cell at a time
gives what it gives of the cells and of every resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from robustvit.errors import MetricUndefined
from robustvit.spec import registry
from robustvit.spec.grouping import grouped
from robustvit.statistics.bootstrap_t import MeanIntervals
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import SHARES, IntervalEstimate, Metric, in_unit
from robustvit.statistics.intervals import Interval, accelerated, percentile, wilson
from robustvit.statistics.resamples import Resampler, Resamples

_ROUNDING = 1e-5  # of resamples, whose means are sums in single precision


class _Undrawn(Resampler):
    """Of every set of samples no resample, so that a metric that weights samples itself is known by its result, and quickly."""

    def __init__(self, known: Resampler) -> None:
        self._sets = known

    def of(self, key: str) -> Resamples:
        """Resamples made before, without what they drew."""
        found = copy(self._sets.of(key))
        found.weights = np.zeros((0, found.n), dtype=np.float32)
        return found


class _Term(NamedTuple):
    """A cell and the factor of its mean."""

    factor: float
    found: Values


def score_means(metric: Metric, means: CellMeans, *which: str) -> IntervalEstimate:
    """The value of a metric over several cells, with its interval; `which`: the corruption, for a metric over one.

    Where nothing varies, since every sample has the same value in every cell, resampling gives no interval: the cells' Wilson intervals
    give one, or that of a share of the samples of a cell.
    """
    return deferred_means(metric, means, MeanIntervals(), *which)()


def deferred_means(metric: Metric, means: CellMeans, intervals: MeanIntervals, *which: str) -> Callable[[], IntervalEstimate]:
    """What gives the `score_means` of a metric, whose interval may wait for others of the same samples. Raises as that does, at once."""
    result = metric.compute(means, *which)
    ends = _of_sum(metric, means, result, intervals, *which)
    if ends is None:
        found = _of_replicates(metric, means, result, *which)
        return lambda: in_unit(metric, IntervalEstimate(float(result[0]), *found, means.n()))
    return lambda: in_unit(metric, IntervalEstimate(float(result[0]), *ends(), means.n()))


def _of_replicates(metric: Metric, means: CellMeans, result: np.ndarray, *which: str) -> Interval:
    value, n = float(result[0]), means.n()
    if np.ptp(result[~np.isnan(result)]) > 0.0:
        return accelerated(value, result[1:], n)
    ends = percentile(metric.compute(replace(means, spread=True), *which)[1:])
    certain = ends.low == ends.high and value in (0.0, 1.0) and metric.entry.unit == "%"
    return wilson(n * value, n) if certain else ends


def _of_sum(
    metric: Metric, means: CellMeans, result: np.ndarray, intervals: MeanIntervals, *which: str
) -> Callable[[], Interval] | None:  # fmt: skip
    """The interval of a weighted sum of means of values per sample; None of anything else. result: (1 + R,), of all cells.

    The samples of different sets are independent, so that the intervals of the sets' parts are put together by their distances from the
    value (MOVER: Zou and Donner 2008; of two shares it is Newcombe's 1998).
    """
    factors = linear_factors(metric, means, result, *which)
    terms = [_Term(factor, found) for cell, factor in factors.items() if (found := means.cells[cell]) is not None]
    if not terms or not all(isinstance(term.found.values, np.ndarray) for term in terms):
        return None
    share = registry.lookup("metric", metric.entry.of).unit in SHARES
    by_set = grouped((one.found.key, one) for one in terms)
    parts = [_part(some, means.resampler.of(key).in_their_order, share, intervals) for key, some in by_set.items()]

    def ends() -> Interval:
        found = [(value, interval()) for value, interval in parts]
        below, above = (math.sqrt(sum((value - interval[side]) ** 2 for value, interval in found)) for side in (0, 1))
        return Interval(float(result[0]) - below, float(result[0]) + above)

    return ends


def linear_factors(metric: Metric, means: CellMeans, result: np.ndarray, *which: str) -> Mapping[tuple[str, str], float]:
    """The factor of each cell's mean where the metric is a constant and a sum of them, without those of 0; {} where it is not.

    result: (1 + R,), the metric of these means; `which`: the corruption, for a metric over one.
    """
    rates = means.rates
    trials = np.hstack([np.zeros((len(rates), 1)), np.eye(len(rates))])
    try:
        with np.errstate(all="ignore"):
            given = dict(zip(rates, trials, strict=True))
            tried = metric.compute(replace(means, given=given, resampler=_Undrawn(means.resampler)), *which)
    except MetricUndefined:
        return {}
    if len(tried) != 1 + len(rates) or not np.isfinite(tried).all():
        return {}
    factors = tried[1:] - tried[0]
    expected = tried[0] + factors @ np.stack(list(rates.values()))
    if not np.allclose(expected, result, rtol=0.0, atol=_ROUNDING * max(1.0, float(np.abs(factors).sum()))):
        return {}
    return {cell: float(factor) for cell, factor in zip(rates, factors, strict=True) if factor != 0.0}


def _part(
    terms: Sequence[_Term], resamples: Resamples, share: bool, intervals: MeanIntervals
) -> tuple[float, Callable[[], Interval]]:  # fmt: skip
    """The part of a sum that one set of samples has, and its interval: Wilson's where it is a share, or shares that do not vary."""
    columns = [np.asarray(term.found.values) for term in terms]
    factors = np.array([term.factor for term in terms])
    values = factors @ np.stack(columns, dtype=np.float64)
    if share and (len(terms) == 1 or all(one.min() == one.max() for one in columns)) and all(map(_counted, columns)):
        shares = [np.array(wilson(float(one.sum()), len(one))) for one in columns]
        ends = np.array([sorted(factor * share) for factor, share in zip(factors, shares, strict=True)])
        return float(values.mean()), lambda: Interval(*ends.sum(axis=0).tolist())
    if np.ptp(values) == 0.0:
        return float(values[0]), lambda: Interval(float(values[0]), float(values[0]))
    limits = (float(np.minimum(factors, 0).sum()), float(np.maximum(factors, 0).sum())) if share else (-np.inf, np.inf)
    return float(values.mean()), intervals.request(values, resamples, *limits)


def _counted(values: np.ndarray) -> bool:
    """Whether values are zeros and ones."""
    return values.dtype == np.bool_ or bool(((values == 0.0) | (values == 1.0)).all())
