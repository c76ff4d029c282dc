"""The bootstrap-t interval of a mean, of one or of many means of the same samples at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from robustvit.statistics.intervals import LEVEL, Interval, wilson
from robustvit.statistics.resamples import Resamples

_MISSED = 0.25  # a replicate whose standard error is below this share of the sample's missed what varies
_MOST = 32  # means that wait for each other
_QUANTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


class Sums(NamedTuple):
    """Of each replicate, (R,): how many samples it drew that count, the sum of their values and of the squares of their values."""

    counts: np.ndarray
    values: np.ndarray
    squares: np.ndarray


def drawn_sums(values: np.ndarray, weights: np.ndarray) -> Sums:
    """The Sums of values, (n,), under weights, (R, n), in double precision."""
    return Sums(*(weights.astype(np.float64) @ np.stack([np.ones(len(values)), values, values**2], axis=1)).T)


def studentised(values: np.ndarray, sums: Sums, low: float = -np.inf, high: float = np.inf) -> Interval:
    """The bootstrap-t interval of the mean of values, (n,), within the range that they can have (Efron and Tibshirani 1993).

    Where so few samples differ from the others that replicates miss them, the mean is the commonest value plus, on either side, a share
    times a deviation, and the interval is that of the shares (Wilson's), times the deviations, each weighted by itself.
    """
    n, mean, spread = len(values), float(values.mean()), float(values.std(ddof=1))
    drawn = sums.counts > 1
    counts, replicates = sums.counts[drawn], sums.values[drawn] / sums.counts[drawn]
    errors = np.sqrt(np.maximum(sums.squares[drawn] / counts - replicates**2, 0.0) / (counts - 1))
    error = spread / math.sqrt(n)
    known = errors > _MISSED * error
    if 1.0 - known.mean() > (1 - LEVEL) / 4:
        return _of_few(values, low, high)
    t = (replicates[known] - mean) / errors[known]
    below, above = np.quantile(t, _QUANTILES, method="weibull")
    return Interval(max(low, mean - float(above) * error), min(high, mean - float(below) * error))


def _of_few(values: np.ndarray, low: float, high: float) -> Interval:
    """The interval of a mean of which few samples differ from the commonest value."""
    kinds, counts = np.unique(values, return_counts=True)
    common, n = float(kinds[counts.argmax()]), len(values)
    ends = [common, common]
    for sign in (-1.0, 1.0):
        apart = np.maximum(sign * (values - common), 0.0)
        k = int((apart > 0).sum())
        if k:
            scale = float((apart**2).sum() / apart.sum())
            share = wilson(float(apart.sum()) / scale, n)
            ends[0 if sign < 0 else 1] += sign * scale * share.high
            ends[1 if sign < 0 else 0] += sign * scale * share.low
    return Interval(max(low, ends[0]), min(high, ends[1]))


def studentised_together(columns: np.ndarray, resamples: Resamples, limits: Sequence[tuple[float, float]]) -> list[Interval]:
    """`studentised` of the mean of each row of (k, n) values, whose sums under the resamples are one product of matrices.

    limits: the range of each. Every row varies.
    """
    n = resamples.n
    values, squares = resamples.sums(columns)
    means, errors = columns.mean(axis=1, keepdims=True), columns.std(axis=1, ddof=1, keepdims=True) / math.sqrt(n)
    replicates = values / n
    spreads = np.sqrt(np.maximum(squares / n - replicates**2, 0.0) / (n - 1))
    whole = (spreads > _MISSED * errors).all(axis=1)  # elsewhere replicates miss what varies, and are left out
    below, above = np.zeros((2, len(columns)))
    below[whole], above[whole] = np.quantile(
        (replicates[whole] - means[whole]) / spreads[whole], _QUANTILES, axis=1, method="weibull"
    )  # fmt: skip
    found = []
    for place, (low, high) in enumerate(limits):
        if whole[place]:
            mean, error = float(means[place, 0]), float(errors[place, 0])
            found.append(Interval(max(low, mean - float(above[place]) * error), min(high, mean - float(below[place]) * error)))
        else:
            sums = Sums(np.full(len(resamples.weights), float(n)), values[place], squares[place])
            found.append(studentised(columns[place], sums, low, high))
    return found


@dataclass
class _Waiting:
    """Means of one set of samples whose intervals are not computed yet, and the place of the first among all that were requested."""

    resamples: Resamples
    columns: list[np.ndarray] = field(default_factory=list)
    limits: list[tuple[float, float]] = field(default_factory=list)
    found: list[list[Interval]] = field(default_factory=list)


class MeanIntervals:
    """Bootstrap-t intervals of means, those of the same samples computed together: one product of matrices in place of many."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def request(self, values: np.ndarray, resamples: Resamples, low: float = -np.inf, high: float = np.inf) -> Callable[[], Interval]:
        """What gives the interval of the mean of values, (n,) float64 in the order of the resamples, within their range.

        It is computed once as many means wait as are computed at a time, or once it is read.
        """
        waiting = self._waiting.setdefault(resamples.key, _Waiting(resamples))
        mine: list[Interval] = []
        waiting.columns.append(values)
        waiting.limits.append((low, high))
        waiting.found.append(mine)
        if len(waiting.columns) >= _MOST:
            self._compute(resamples.key)

        def interval() -> Interval:
            if not mine:
                self._compute(resamples.key)
            return mine[0]

        return interval

    def _compute(self, key: str) -> None:
        waiting = self._waiting.pop(key)
        intervals = studentised_together(np.stack(waiting.columns), waiting.resamples, waiting.limits)
        for mine, one in zip(waiting.found, intervals, strict=True):
            mine.append(one)
