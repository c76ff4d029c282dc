"""Confidence intervals: Wilson's for shares, the bootstrap over samples for everything else; Holm's correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95
REPLICATES = 500
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_FLAT = 1e-9  # a spread below this share of a value is rounding
_STEEPEST = 0.1  # least factor that skewness stretches a quantile by


class Interval(NamedTuple):
    """The ends of an interval: of 95 % unless stated otherwise."""

    low: float
    high: float


def wilson(right: float, n: int) -> Interval:
    """Wilson's score interval of a share, `right` of n > 0, as fractions."""
    share, z2 = right / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(0.0 if right == 0 else max(0.0, middle - half), 1.0 if right == n else min(1.0, middle + half))


def settled(interval: Interval) -> Interval:
    """The interval to five significant digits: finer than 500 replicates determine it, coarser than two machines round sums."""
    return Interval(float(f"{interval.low:.5g}"), float(f"{interval.high:.5g}"))


def percentile(replicates: np.ndarray) -> Interval:
    """The middle 95 % of bootstrap replicates, (R,); the interval of a mean, or of an average of means.

    A replicate that drew nothing that counts is NaN, and left out.
    """
    low, high = np.quantile(replicates[~np.isnan(replicates)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def accelerated(value: float, replicates: np.ndarray, n: int) -> Interval:
    """The BCa interval of a statistic of n samples and its bootstrap replicates, (R,): percentiles corrected for bias and skewness.

    Its quantiles stand as far out as Student's, and farther by the factor √(n/(n − 1)) by which replicates vary too little (the expanded
    percentiles of Hesterberg 2015, What Teachers Should Know About the Bootstrap). The k-th smallest of R replicates is their k/(R + 1)
    quantile.
    Efron 1987, Better Bootstrap Confidence Intervals; the acceleration is a sixth of the skewness of the replicates, which for a mean is
    that of the mean itself. A replicate that drew nothing that counts is NaN, and left out.
    """
    known = replicates[~np.isnan(replicates)]
    spread = float(known.std())
    if spread <= _FLAT * max(1.0, abs(value)):
        return percentile(known)
    below = float(np.mean(known < value) + np.mean(known == value) / 2)
    bias = float(ndtri(np.clip(below, 1 / len(known), 1 - 1 / len(known))))
    acceleration = float(np.mean(((known - known.mean()) / spread) ** 3)) / 6
    outermost = float(stdtrit(max(n - 1, 1), 0.5 + LEVEL / 2)) * math.sqrt(n / max(n - 1, 1))
    low, high = np.quantile(known, [_shifted(z, bias, acceleration) for z in (-outermost, outermost)], method="weibull")
    return Interval(min(float(low), value), max(float(high), value))


def _shifted(z: float, bias: float, acceleration: float) -> float:
    """Which quantile of the replicates stands at z standard errors."""
    moved = bias + z
    return float(ndtr(bias + moved / max(1.0 - acceleration * moved, _STEEPEST)))


def paired(only_a: int, only_b: int, n: int, level: float = LEVEL) -> Interval:
    """The interval of a difference of two shares of the same n samples, as fractions.

    only_a, only_b: how many samples one has and the other has not. level: the coverage; 1 − 0.05/m for each of m simultaneous intervals.
    Bonett and Price 2012, adjusted Wald: one pseudo-count for each side, so that it has a width where nothing differs.
    """
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    half = z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return Interval(max(-1.0, a - b - half), min(1.0, a - b + half))


def mean_of(estimates: Sequence[Sequence[float]] | np.ndarray) -> tuple[float, float, float]:
    """The mean of estimates (value, low, high), with the means of their ends: an interval whatever the estimates have in common.

    The standard deviation of a mean is at most the mean of the standard deviations, and is that where cells of the same samples move
    together. Where replicates of the cells are at hand, CellMeans gives a narrower one.
    """
    value, low, high = np.mean(np.asarray(estimates, dtype=np.float64), axis=0).tolist()
    return value, low, high


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction, (m,): the family-wise error rate stays below the level that each is compared with."""
    p = np.asarray(p_values, dtype=np.float64)
    ranked = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[ranked] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[ranked] = np.minimum(1.0, stepped)
    return corrected
