"""Calibration errors without most of the plug-in estimate's bias, with intervals of the model's own error.

Within a bin the difference of accuracy and confidence is estimated with a standard error s; the mean of its absolute value, or of its
square, is larger than the true one by an amount that the true difference and s determine. Kumar, Liang and Ma 2019 subtract it.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge, Le
from scipy.special import ndtr

from robustvit.errors import NotApplicable
from robustvit.metrics.confidence.calibration import equal_mass, equal_width
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import IntervalEstimate
from robustvit.statistics.intervals import Z

_SOURCE = "Kumar, Liang and Ma 2019, Verified Uncertainty Calibration (NeurIPS), section 5 and the authors' code"


@metric(
    title="expected calibration error, debiased",
    source=_SOURCE, url="https://arxiv.org/abs/1909.10155", unit="%", higher_is_better=False, needs=("label", "pred", "confidence")
)  # fmt: skip
def ece_debiased(records: pd.DataFrame, *, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> IntervalEstimate:
    """Expected calibration error less its expected excess: bins as for ece, debiased as the authors' normal_debiased_ce.

    The excess of a bin is that of the absolute value of a normal variable about the observed difference; the authors draw it, here it is
    integrated. Cut at 0. The bias of an absolute value cannot be removed where the true difference is near 0, so that some is left: the
    interval, of the error of the model in these bins, allows in each bin for a true difference 1.96 standard errors nearer to 0 or further
    from it than the observed one. Denominator: all samples of the cell, n. No reference table.
    """
    binned = _binned(records, equal_width(np.asarray(records["confidence"]), bins))
    plug_in = float(binned.shares @ np.abs(binned.gaps))
    value = plug_in - float(binned.shares @ _excess(np.abs(binned.gaps), binned.errors))
    size, error = np.abs(binned.gaps), np.maximum(binned.smoothed, 1e-12)
    least, most = (_excess(np.maximum(size + side * Z * error, 0.0), error) for side in (1.0, -1.0))
    margin = Z * math.sqrt(max(float(binned.shares @ (binned.variances + size**2)) - plug_in**2, 0.0) / binned.n)
    low, high = plug_in - float(binned.shares @ most) - margin, plug_in - float(binned.shares @ least) + margin
    return _within(value, low, high, binned.n)


@metric(
    title="RMS calibration error, debiased",
    source=_SOURCE, url="https://arxiv.org/abs/1909.10155", unit="%", higher_is_better=False, needs=("label", "pred", "confidence")
)  # fmt: skip
def rms_calibration_debiased(records: pd.DataFrame, *, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> IntervalEstimate:
    """Root of the debiased mean square calibration error over bins with equally many samples (Kumar et al., unbiased_square_ce).

    From the square of each bin's difference of accuracy and confidence its expected excess is subtracted, p(1 − p)/(n − 1) of the bin's
    accuracy p on n samples; of a negative sum the root is 0. The interval, of the error of the model in these bins, is that of the sum of
    squares, whose standard error is that of a quadratic form, and its root. Denominator: all samples of the cell, n; undefined where a bin
    has one sample. No reference table.
    """
    if len(records) < 2 * bins:
        raise NotApplicable(f"it takes two samples in each of {bins} bins; here are {len(records)}")
    binned = _binned(records, equal_mass(np.asarray(records["confidence"]), bins))
    excess = binned.accuracies * (1 - binned.accuracies) / (binned.counts - 1)
    square = float(binned.shares @ (binned.gaps**2 - excess))
    true_square, noise = np.maximum(binned.gaps**2 - binned.smoothed**2, 0.0), binned.smoothed**2
    error = math.sqrt(float((binned.shares**2) @ (4 * true_square * noise + 2 * noise**2)))
    value, low, high = (math.sqrt(max(one, 0.0)) for one in (square, square - Z * error, square + Z * error))
    return _within(value, low, high, binned.n)


class _Binned(NamedTuple):
    """Of each bin that has samples: their number and share, accuracy less confidence, accuracy, the standard error as the authors take it.

    variances: of a sample's outcome, one right and one wrong sample added; smoothed: the standard error by those.
    """

    n: int
    counts: np.ndarray
    shares: np.ndarray
    gaps: np.ndarray
    accuracies: np.ndarray
    errors: np.ndarray
    variances: np.ndarray
    smoothed: np.ndarray


def _binned(records: pd.DataFrame, place: np.ndarray) -> _Binned:
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)
    confidence = np.asarray(records["confidence"], dtype=np.float64)
    counts = np.bincount(place)
    here = counts > 0
    n, counts = len(right), counts[here]
    accuracy = np.bincount(place, right)[here] / counts
    gaps = accuracy - np.bincount(place, confidence)[here] / counts
    likely = (accuracy * counts + 1) / (counts + 2)
    variances = likely * (1 - likely)
    errors = np.sqrt(accuracy * (1 - accuracy) / counts)
    return _Binned(n, counts, counts / n, gaps, accuracy, errors, variances, np.sqrt(variances / counts))


def _excess(size: np.ndarray, error: np.ndarray) -> np.ndarray:
    """By how much the mean of |x| exceeds `size`, for normal x about it with a standard error (0: by nothing)."""
    far = np.divide(size, error, out=np.full_like(size, np.inf), where=error > 0)
    return np.asarray(error * math.sqrt(2 / math.pi) * np.exp(-(far**2) / 2) - 2 * size * ndtr(-far))


def _within(value: float, low: float, high: float, n: int) -> IntervalEstimate:
    value = min(max(value, 0.0), 1.0)
    return IntervalEstimate(value, min(max(low, 0.0), value), max(min(high, 1.0), value), n)
