"""Confidence intervals: Wilson's for shares, the bootstrap over samples for everything else; Holm's correction for many tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
REPLICATES = 500
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


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


def reflected(value: float, replicates: np.ndarray) -> Interval:
    """The percentile interval mirrored at the value (the basic bootstrap): right for statistics that resampling biases to one side.

    Calibration error is one: its replicates lie above it as it lies above the truth.
    """
    low, high = percentile(replicates)
    return Interval(2 * value - high, 2 * value - low)


def paired(only_a: int, only_b: int, n: int, level: float = LEVEL) -> Interval:
    """The interval of a difference of two shares of the same n samples, as fractions.

    only_a, only_b: how many samples one has and the other has not. level: the coverage; 1 − 0.05/m for each of m simultaneous intervals.
    Bonett and Price 2012, adjusted Wald: one pseudo-count for each side, so that it has a width where nothing differs.
    """
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    half = z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return Interval(max(-1.0, a - b - half), min(1.0, a - b + half))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction, (m,): the family-wise error rate stays below the level that each is compared with."""
    p = np.asarray(p_values, dtype=np.float64)
    ranked = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[ranked] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[ranked] = np.minimum(1.0, stepped)
    return corrected


class Resamples:
    """How often each bootstrap replicate drew each sample: a function of the set of sample ids alone.

    Two tables of the same samples therefore share their resamples, whatever their row order, which makes comparisons and averages over
    cells paired. `order` brings the rows as given into the order (sorted by id) in which `weights` counts them.
    """

    def __init__(self, samples: Sequence[str]) -> None:
        ids = np.asarray(samples, dtype=object)
        self.order = np.argsort(ids, kind="stable")
        self.key = hashlib.sha256("\n".join(ids[self.order]).encode()).hexdigest()
        self.n = len(ids)

    @cached_property
    def weights(self) -> np.ndarray:
        """(REPLICATES, n) float32 counts; every row sums to n. Sums of zeros and ones under them are exact up to 16 million samples."""
        source = np.random.PCG64(int(self.key[:32], 16))  # raw words: equal in every version of numpy, as Generator's methods are not
        counts = np.empty((REPLICATES, self.n), dtype=np.float32)
        for row in counts:
            drawn = ((source.random_raw(self.n) >> np.uint64(11)) % np.uint64(self.n)).astype(np.intp)
            row[:] = np.bincount(drawn, minlength=self.n)
        return counts


class Resampler:
    """Makes the Resamples of tables, the same object for the same samples in the same order."""

    def __init__(self) -> None:
        self._known: dict[str, Resamples] = {}
        self._by_key: dict[str, Resamples] = {}

    def __call__(self, samples: Sequence[str]) -> Resamples:
        """The Resamples of these ids, which need not be sorted."""
        given = hashlib.sha256("\n".join(samples).encode()).hexdigest()
        if given not in self._known:
            self._known[given] = Resamples(samples)
            self._by_key.setdefault(self._known[given].key, self._known[given])
        return self._known[given]

    def of(self, key: str) -> Resamples:
        """Resamples made before, by the key of their set of ids."""
        return self._by_key[key]
