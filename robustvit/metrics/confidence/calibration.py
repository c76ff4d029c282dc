"""Calibration: whether a model is correct as often as its confidence says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge, Le
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from scipy.special import log_softmax

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted
from robustvit.statistics.metric_context import MetricContext


@metric(
    title="expected calibration error",
    source="Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3; Naeini et al. 2015",
    url="https://arxiv.org/abs/1706.04599",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def ece(records: pd.DataFrame, *, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> Weighted:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of confidence by their number of samples.

    bins: of equal width on (0, 1], closed on the right. Denominator: all samples of the cell, n. Confidence is the largest softmax
    probability over the classes of the data's first reading. This is the plug-in estimate, which is too high on average, the more so the
    fewer samples a bin has: its interval is of the estimate's expectation at this n, and not of the model's calibration error, which may
    lie below it. ece_debiased has an interval of that. Bootstrap interval, its replicates moved to lie about the value. No reference table.
    """
    return _plug_in(equal_width(np.asarray(records["confidence"]), bins), _surplus(records))


@metric(
    title="expected calibration error, adaptive bins",
    source="Nixon et al. 2019, Measuring Calibration in Deep Learning (adaptive calibration error); of the predicted class",
    url="https://arxiv.org/abs/1904.01685",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def ece_adaptive(records: pd.DataFrame, *, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> Weighted:
    """As ece, in bins with equally many samples, by rank of confidence; they are those of the cell in every resample.

    Equally confident samples are in the order of their ids. The paper averages over all classes: here it is the predicted one, as for ece.
    Denominator: all samples of the cell, n. Interval as for ece: of the plug-in estimate's expectation at this n. No reference table.
    """
    return _plug_in(equal_mass(np.asarray(records["confidence"]), bins), _surplus(records))


@metric(
    title="class-wise calibration error",
    source="Kull et al. 2019, Beyond Temperature Scaling (classwise ECE); Nixon et al. 2019 (static calibration error)",
    url="https://arxiv.org/abs/1910.12656",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "logits"),
)
def ece_classwise(records: pd.DataFrame, context: MetricContext, *, bins: Annotated[int, Ge(1), Le(100)] = 15) -> Weighted:
    """ECE of the probability of each class against how often it is the label, averaged over the classes.

    bins: of equal width, as for ece. It needs kept logits (`--keep logits`); of data that is read among some classes, the logits of those.
    With many classes almost all probabilities are in the lowest bin, and the value is small. Denominator: all samples of the cell, n, for
    each class; classes weigh equally. Interval as for ece: of the plug-in estimate's expectation at this n. No reference table.
    """
    probabilities = np.exp(log_softmax(read_logits(records, context), axis=1))
    n, classes = probabilities.shape
    surplus = (np.asarray(records["label"])[:, None] == np.arange(classes)) - probabilities
    place = equal_width(probabilities.astype(np.float32), bins) + bins * np.arange(classes)
    rows = np.repeat(np.arange(n), classes)
    return _plug_in_of(csr_array((surplus.ravel() / classes, (rows, place.ravel())), shape=(n, bins * classes)))


@metric(
    title="expected calibration error after temperature scaling",
    source="Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2",
    url="https://arxiv.org/abs/1706.04599",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "logits"),
)
def ece_temperature(records: pd.DataFrame, context: MetricContext, *, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> Weighted:
    """ece after temperature scaling: T maximises the likelihood of one half of the samples, the other half is scored.

    Logits are divided by T. It needs kept logits (`--keep logits`); of data that is read among some classes, the logits of those. Undefined
    on data that groups them. Halves are drawn by a hash of the sample's id, so that a sample is always on the same side. bins: as for ece.
    Denominator: the scored half, n. Interval as for ece, of the plug-in estimate's expectation at this n; resamples shift T to first order.
    No reference table.
    """
    logits = read_logits(records, context)
    label = np.asarray(records["label"])
    scored = np.array([_coin(name) for name in records["sample"]])
    if not 0 < scored.sum() < len(scored):
        raise NotApplicable(f"it takes samples in both halves; here are {len(scored)} samples in one")
    best = temperature(logits[~scored], label[~scored])
    half = _Fitted.of(logits[~scored] / best, label[~scored])

    def at(t: float) -> Weighted:
        p = np.exp(log_softmax(logits / t, axis=1).max(axis=1))
        return _plug_in(equal_width(p, bins), ((logits.argmax(axis=1) == label) - p) * scored, scored)

    fixed, step = at(best), max(half.error, 1e-3)
    slope = [at(best * np.exp(side * step)).of(np.ones((1, len(label))))[0] for side in (-1, 1)]

    def of(weights: np.ndarray) -> np.ndarray:
        return np.asarray(fixed.of(weights) + half.shifts(weights[:, ~scored]) * (slope[1] - slope[0]) / (2 * step))

    return replace(fixed, of=of)


class _Fitted(NamedTuple):
    """Per sample of the half that T is fitted on, first and second derivative of its negative log-likelihood in log T at the best T."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, scaled: np.ndarray, label: np.ndarray) -> _Fitted:
        p = np.exp(log_softmax(scaled, axis=1))
        mean = (p * scaled).sum(axis=1)
        first = scaled[np.arange(len(label)), label] - mean
        return cls(first - first.mean(), (p * (scaled - mean[:, None]) ** 2).sum(axis=1) - first)

    @property
    def error(self) -> float:
        """The standard error of log T."""
        return float(np.sqrt((self.first**2).sum()) / max(self.second.sum(), 1e-12))

    def shifts(self, weights: np.ndarray) -> np.ndarray:
        """(R,) by how much log T of weighted samples differs from that of all, to first order; at most four standard errors."""
        moved = -(weights @ self.first) / np.maximum(weights @ self.second, 1e-12)
        return np.asarray(np.clip(moved, -4 * self.error, 4 * self.error))


def temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """The T in [0.01, 100] that makes the mean negative log-likelihood of labels (n,) under softmax(logits / T) least; logits (n, K)."""
    rows = np.arange(len(label))

    def mean_nll(log_t: float) -> float:
        return -float(log_softmax(logits / np.exp(log_t), axis=1)[rows, label].mean())

    found = minimize_scalar(mean_nll, bounds=(np.log(0.01), np.log(100.0)), method="bounded")
    return float(np.exp(found.x))


def read_logits(records: pd.DataFrame, context: MetricContext) -> np.ndarray:
    """(n, K) float64: kept logits in the classes that the data is read among. Raises NotApplicable where the predictions are not theirs."""
    logits = np.stack(records["logits"].to_list()).astype(np.float64)
    logits = logits if context.reading_columns is None else logits[:, context.reading_columns]
    if bool((logits.argmax(axis=1) != records["pred"]).any()):
        raise NotApplicable(
            "the predictions are not those of the kept logits: the data's reading groups them, or an older run did not record it"
        )
    return logits


def equal_width(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence among bins of equal width on (0, 1], closed on the right; of the shape given."""
    edges = np.linspace(0.0, 1.0, bins + 1).astype(confidence.dtype)  # in the stored precision, so that 0.2 lies on the edge 0.2
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def equal_mass(confidence: np.ndarray, bins: int) -> np.ndarray:
    """(n,) the bin of each confidence among bins with equally many samples but for one, by rank; at most n bins."""
    place = np.empty(len(confidence), dtype=np.intp)
    place[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * min(bins, len(confidence)) // len(confidence)
    return place


def _surplus(records: pd.DataFrame) -> np.ndarray:
    """(n,) how far a sample's outcome (1 correct, 0 not) lies above its confidence."""
    right = np.equal(records["pred"].to_numpy(), records["label"].to_numpy())
    found: np.ndarray = right - np.asarray(records["confidence"], dtype=np.float64)
    return found


def _plug_in(place: np.ndarray, surplus: np.ndarray, scored: np.ndarray | None = None) -> Weighted:
    """Expected calibration error over bins. place: the bin of each sample. scored: those that count, default all."""
    n = len(place)
    return _plug_in_of(csr_array((surplus, (np.arange(n), place)), shape=(n, int(place.max()) + 1)), scored)


def _plug_in_of(gaps: csr_array, scored: np.ndarray | None = None) -> Weighted:
    """The same from (n, bins) surpluses, nothing where a sample is not in a bin: a product with the few that are there."""
    columns = gaps.T.tocsr()
    single = columns.astype(np.float32)
    counted = np.ones(columns.shape[1]) if scored is None else scored

    def of(weights: np.ndarray) -> np.ndarray:
        sums = (single if weights.dtype == np.float32 else columns) @ weights.T
        return np.asarray(np.abs(sums).sum(axis=0, dtype=np.float64) / np.maximum(weights @ counted.astype(weights.dtype), 1e-300))

    return Weighted(of, low=0.0, high=1.0, counted=None if scored is None else int(scored.sum()), centred=True)


def _coin(name: str) -> bool:
    """Which half a sample belongs to, by its id alone."""
    return bool(hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1)
