"""The estimate of a metric of one cell, with the interval that fits what the metric returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.statistics.bootstrap_t import MeanIntervals, drawn_sums, studentised
from robustvit.statistics.estimates import (
    SHARES,
    Clustered,
    IntervalEstimate,
    Metric,
    Weighted,
    certain_interval,
    in_unit,
    weighted_statistic,
)  # fmt: skip
from robustvit.statistics.intervals import accelerated, wilson
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resampler, Resamples

_SLOW_REPLICATES = 200  # of a metric that can only be called again
_NO_CONTEXT = MetricContext()


def score(
    metric: Metric,
    records: pd.DataFrame,
    resamples: Resamples,
    resampler: Resampler | None = None,
    *,
    context: MetricContext = _NO_CONTEXT,
) -> IntervalEstimate:
    """The value of a per-cell metric on one cell, with its interval. records: rows as stored; resamples: of their samples, in that order.

    resampler: makes the resamples of clusters. Raises NotApplicable where no sample counts.
    """
    deferred = deferred_score(metric, resamples.in_order(records), resamples, resampler or Resampler(), MeanIntervals(), context=context)
    return deferred()


def deferred_score(
    metric: Metric,
    rows: pd.DataFrame,
    resamples: Resamples,
    resampler: Resampler,
    intervals: MeanIntervals,
    *,
    context: MetricContext = _NO_CONTEXT,
) -> Callable[[], IntervalEstimate]:
    """What gives the `score` of a metric, whose interval may wait for others of the same samples. rows: in the order of the resamples.

    Raises as `score` does, at once.
    """
    result, share = metric.of_cell(rows, context), metric.entry.unit in SHARES
    if isinstance(result, Clustered):
        clusters = resampler(result.ids)
        values = result.in_order(clusters.order)
        if isinstance(values, Weighted):
            estimate = _weighted(values, clusters)
            return lambda: in_unit(metric, estimate)
        found = _mean(values, clusters, share, intervals)
    elif isinstance(result, np.ndarray | pd.Series):
        found = _mean(np.asarray(result, dtype=np.float64), resamples, share, intervals)
    else:
        estimate = _at_once(metric, result, rows, resamples, context)
        return lambda: in_unit(metric, estimate)
    return lambda: in_unit(metric, found())


def _at_once(metric: Metric, result: Any, rows: pd.DataFrame, resamples: Resamples, context: MetricContext) -> IntervalEstimate:
    if isinstance(result, IntervalEstimate):
        return result
    if isinstance(result, Weighted):
        return _weighted(result, resamples)
    replicates = _called_again(functools.partial(metric.of_cell, context=context), rows, resamples)
    return IntervalEstimate(float(result), *accelerated(float(result), replicates, resamples.n), resamples.n)


def _mean(values: np.ndarray, resamples: Resamples, share: bool, intervals: MeanIntervals) -> Callable[[], IntervalEstimate]:
    counted = ~np.isnan(values)
    n = int(counted.sum())
    if n == 0:
        raise NotApplicable("no sample counts in its denominator")
    kept = values if n == len(values) else values[counted]
    value, least, most = float(kept.mean()), float(kept.min()), float(kept.max())
    if share and bool(((kept == 0.0) | (kept == 1.0)).all()):
        estimate = IntervalEstimate(value, *wilson(float(kept.sum()), n), n)
        return lambda: estimate
    if least == most:
        return lambda: IntervalEstimate(value, value, value, n)
    ends = (0.0, 1.0) if share and least >= 0 and most <= 1 else (-np.inf, np.inf)
    if n == len(values):
        interval = intervals.request(kept, resamples, *ends)
    else:
        found = studentised(kept, drawn_sums(kept, resamples.weights[:, counted]), *ends)
        interval = lambda: found  # noqa: E731
    return lambda: IntervalEstimate(value, *interval(), n)


def _weighted(result: Weighted, resamples: Resamples) -> IntervalEstimate:
    found = weighted_statistic(result, resamples.weights)
    value, n = float(found[0]), resamples.n if result.counted is None else result.counted
    ends = certain_interval(result, found, n) or accelerated(value, found[1:], n)
    low, high = np.clip(ends, result.low, result.high)
    return IntervalEstimate(value, float(low), float(high), n)


def _called_again(compute: Callable[[pd.DataFrame], Any], rows: pd.DataFrame, resamples: Resamples) -> np.ndarray:
    """(_SLOW_REPLICATES,) the metric of drawn rows."""
    drawn = (np.repeat(np.arange(resamples.n), counts.astype(np.intp)) for counts in resamples.weights[:_SLOW_REPLICATES])
    return np.array([float(compute(rows.iloc[index].reset_index(drop=True))) for index in drawn])
