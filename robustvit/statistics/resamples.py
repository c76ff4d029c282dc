"""The bootstrap's resamples: how often each replicate drew each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from functools import cached_property

import numpy as np
import pandas as pd

from robustvit.statistics.intervals import REPLICATES

_BLOCK = 8192  # samples whose draws are in double precision at a time: 33 MB


class SampleDraws:
    """How often each bootstrap replicate drew each sample of a set: a function of the sorted ids alone, drawn once for all their orders.

    key: the digest of the ids; n: how many there are.
    """

    def __init__(self, key: str, n: int) -> None:
        self.key, self.n = key, n

    @cached_property
    def weights(self) -> np.ndarray:
        """(REPLICATES, n) float32 counts; every row sums to n. Sums of zeros and ones under them are exact up to 16 million samples.

        In memory the replicates of a sample lie beside each other, as products with few columns read them.
        """
        source = np.random.PCG64(int(self.key[:32], 16))  # raw words: equal in every version of numpy, as Generator's methods are not
        counts = np.empty((REPLICATES, self.n), dtype=np.float32)
        for row in counts:
            drawn = ((source.random_raw(self.n) >> np.uint64(11)) % np.uint64(self.n)).astype(np.intp)
            row[:] = np.bincount(drawn, minlength=self.n)
        return np.ascontiguousarray(counts.T).T


class Resamples:
    """The draws of a set of samples, and the order of the rows of one table of them.

    They are a function of the set of sample ids alone. Two tables of the same samples therefore share their resamples, whatever their row
    order, which makes comparisons and averages over cells paired. `order` brings the rows as given into the order (sorted by id) in which
    `weights` counts them.
    """

    def __init__(self, samples: Sequence[str], known: dict[str, SampleDraws] | None = None) -> None:
        """known: draws by key, which these are taken from or put into."""
        ids = np.asarray(samples, dtype=object)
        self.order = np.argsort(ids, kind="stable")
        self.key = hashlib.sha256("\n".join(ids[self.order]).encode()).hexdigest()
        self.n = len(ids)
        self._draws = ({} if known is None else known).setdefault(self.key, SampleDraws(self.key, self.n))
        self._sorted = bool((self.order == np.arange(self.n)).all())

    @cached_property
    def in_their_order(self) -> Resamples:
        """These resamples for a table that is sorted by id already."""
        if self._sorted:
            return self
        found = copy(self)
        found.order, found._sorted = np.arange(self.n), True
        return found

    def in_order(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of these samples, as given, in the order in which `weights` counts them."""
        return rows if self._sorted else rows.iloc[self.order].reset_index(drop=True)

    @cached_property
    def weights(self) -> np.ndarray:
        """(REPLICATES, n) float32 counts, as `SampleDraws.weights` has them."""
        return self._draws.weights

    def sums(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two times (k, R): the sums of columns, (k, n) in the order of `weights`, and of their squares under every replicate.

        In double precision, some samples at a time.
        """
        values, squares = np.zeros((2, len(columns), len(self.weights)))
        for start in range(0, self.n, _BLOCK):
            block = self.weights[:, start : start + _BLOCK].T.astype(np.float64)
            part = columns[:, start : start + _BLOCK]
            values += part @ block
            squares += part**2 @ block
        return values, squares


class Resampler:
    """Makes the Resamples of tables, the same object for the same samples in the same order."""

    def __init__(self) -> None:
        self._known: dict[str, Resamples] = {}
        self._by_key: dict[str, Resamples] = {}
        self._draws: dict[str, SampleDraws] = {}
        self._series: dict[int, tuple[pd.Series, Resamples]] = {}
        self._ids: dict[str, pd.Index] = {}

    def __call__(self, samples: Sequence[str]) -> Resamples:
        """The Resamples of these ids, which need not be sorted."""
        given = hashlib.sha256("\n".join(samples).encode()).hexdigest()
        if given not in self._known:
            self._known[given] = Resamples(samples, self._draws)
            self._by_key.setdefault(self._known[given].key, self._known[given])
        return self._known[given]

    def of_series(self, samples: pd.Series) -> Resamples:
        """As calling it with the values of a series, which are looked at once: the very object is known again."""
        if id(samples) not in self._series:
            self._series[id(samples)] = (samples, self(samples.tolist()))  # kept, so that nothing else gets its id
        return self._series[id(samples)][1]

    def ids(self, key: str) -> pd.Index:
        """The ids of a set that came as a series, in the order of `weights`; the same object for the same key."""
        if key not in self._ids:
            samples, resamples = next(one for one in self._series.values() if one[1].key == key)
            self._ids[key] = pd.Index(samples.iloc[resamples.order])
        return self._ids[key]

    def of(self, key: str) -> Resamples:
        """Resamples made before, by the key of their set of ids."""
        return self._by_key[key]
