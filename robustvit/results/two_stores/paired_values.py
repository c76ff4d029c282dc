"""The values of one metric on the samples that two cells share, and the interval of their difference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MetricUndefined
from robustvit.records.cells import RowReader, StoredCell
from robustvit.results.cell_scores import cell_context
from robustvit.statistics.bootstrap_t import drawn_sums, studentised
from robustvit.statistics.correctness import DRAWN
from robustvit.statistics.estimates import SHARES, Metric, Weighted, weighted_statistic
from robustvit.statistics.intervals import accelerated, paired
from robustvit.statistics.resamples import Resampler, Resamples


class PairedDifference(NamedTuple):
    """b − a of a number over n samples that both have, with its paired 95 % interval; NaN and 0 where there is no pairing.

    equal: whether no sample differs.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    equal: bool = False


class PairedValues(NamedTuple):
    """A metric on the samples that two cells share, sorted by id, as it computes them. key: of the set of their ids.

    limit: the largest difference that a sample can have, infinite for measurements.
    """

    key: str
    a: np.ndarray | Weighted
    b: np.ndarray | Weighted
    limit: float


class SideReader(NamedTuple):
    """What reads the cells of one store."""

    reader: RowReader
    cell: StoredCell


def paired_values(metric: Metric, a: SideReader, b: SideReader, resampler: Resampler) -> PairedValues | None:
    """The values of a metric of single cells, as fractions; None where it has none per sample, does not fit, or no sample is shared."""
    rows = [_rows(metric, side) for side in (a, b)]
    ids = np.intersect1d(rows[0]["sample"].to_numpy(dtype=object), rows[1]["sample"].to_numpy(dtype=object))
    if not len(ids) or not all(metric.applies(list(map(str, one))) for one in rows):
        return None
    try:
        found = [
            metric.of_cell(one.set_index("sample").loc[ids].reset_index(), cell_context(side.reader, side.cell))
            for one, side in zip(rows, (a, b), strict=True)
        ]
    except MetricUndefined:
        return None
    resamples = resampler(ids.tolist())
    if all(isinstance(one, Weighted) for one in found):
        return PairedValues(resamples.key, found[0], found[1], math.inf)
    if not all(isinstance(one, np.ndarray | pd.Series) for one in found):
        return None
    left, right = (np.asarray(one, dtype=np.float64) for one in found)
    known = np.concatenate([left, right])[~np.isnan(np.concatenate([left, right]))]
    share = metric.entry.unit in SHARES and bool(np.isin(known, (0.0, 1.0)).all())
    share |= metric.entry.unit == "%" and bool(((known >= 0) & (known <= 1)).all())
    return PairedValues(resamples.key, left, right, 1.0 if share else math.inf)


def difference_of(values: PairedValues, resamples: Resamples) -> PairedDifference | None:
    """The difference of a metric of one cell, as a fraction; None where no sample counts on one side.

    Where a side leaves samples out that the other counts, both are resampled together.
    """
    if isinstance(values.a, np.ndarray) and isinstance(values.b, np.ndarray):
        counted = ~np.isnan(values.a), ~np.isnan(values.b)
        if np.array_equal(*counted) and counted[0].any():
            return mean_difference((values.b - values.a)[counted[0]], values.limit, resamples.weights[:, counted[0]])
        if not all(one.any() for one in counted):
            return None
    before, after = (_statistic(one, resamples) for one in (values.a, values.b))
    return difference_of_replicates(after - before, resamples.n)


def difference_of_replicates(result: np.ndarray, n: int) -> PairedDifference:
    """The difference of a statistic, (1 + R,) its value and its replicates on the same resamples, with its BCa interval."""
    if not np.nanmax(np.abs(result)) > 0:
        return PairedDifference(0.0, 0.0, 0.0, n, equal=True)
    return PairedDifference(float(result[0]), *accelerated(float(result[0]), result[1:], n), n)


def mean_difference(differences: np.ndarray, limit: float, weights: np.ndarray) -> PairedDifference:
    """The mean of the differences of n samples, (n,), with its interval. limit: the largest that one can be; weights: (R, n) resamples.

    Of counts of one cell it is Bonett and Price's, as everywhere else; so it is where nothing differs, whatever was averaged, so that no
    sample of a few hundred shows that two shares are equal. Else it is the bootstrap-t interval of the mean.
    """
    n, value, equal = len(differences), float(differences.mean()), not differences.any()
    if limit == 1.0 and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all()):
        return PairedDifference(value, *paired(int((differences > 0).sum()), int((differences < 0).sum()), n), n, equal)
    if np.ptp(differences) == 0:
        room = limit * paired(0, 0, n).high if value == 0 and math.isfinite(limit) else 0.0
        return PairedDifference(value, value - room, value + room, n, equal)
    return PairedDifference(value, *studentised(differences, drawn_sums(differences, weights), -limit, limit), n)


def _rows(metric: Metric, side: SideReader) -> pd.DataFrame:
    needs = metric.entry.needs
    columns = sorted({"label", "pred", *DRAWN, *needs}) if needs else None
    return side.reader.rows(side.cell.question, columns).rows


def _statistic(values: np.ndarray | Weighted, resamples: Resamples) -> np.ndarray:
    """(1 + R,) the metric of the samples and of their resamples."""
    if isinstance(values, Weighted):
        return weighted_statistic(values, resamples.weights)
    counted = ~np.isnan(values)
    drawn = np.concatenate([np.ones((1, resamples.n)), resamples.weights])[:, counted].astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(drawn @ values[counted] / drawn.sum(axis=1))
