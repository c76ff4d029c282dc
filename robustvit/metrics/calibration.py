"""Calibration: whether a model is correct as often as its confidence says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted
from robustvit.statistics.metric_context import MetricContext


@metric(
    source="Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3; Naeini et al. 2015",
    url="https://arxiv.org/abs/1706.04599",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def ece(records: pd.DataFrame, *, bins: Annotated[int, Ge(1)] = 15) -> Weighted:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of confidence by their number of samples.

    bins: of equal width on (0, 1], closed on the right. Denominator: all samples of the cell, n. Confidence is the largest softmax
    probability over the classes of the data's first reading. With few samples the value is too high on average, and so are its
    resamples: the interval is the bootstrap's mirrored at the value, cut at 0. No reference table.
    """
    gaps = _gaps(np.asarray(records["confidence"]), np.asarray(records["pred"] == records["label"]), bins)
    return Weighted(lambda weights: np.abs(weights @ gaps.astype(weights.dtype)).sum(axis=1) / weights.sum(axis=1), low=0.0, high=1.0)


@metric(
    source="Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2",
    url="https://arxiv.org/abs/1706.04599",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "logits"),
)
def ece_temperature(records: pd.DataFrame, context: MetricContext, *, bins: Annotated[int, Ge(1)] = 15) -> Weighted:
    """ece after temperature scaling: T maximises the likelihood of one half of the samples, the other half is scored.

    Logits are divided by T. It needs kept logits (`--keep logits`); of data that is read among some classes, the logits of those. Undefined
    on data that groups them. Halves are drawn by a hash of the sample's id, so that a sample is always on the same side. bins: as for ece.
    Denominator: the scored half, n. Bootstrap interval over the scored half with T held fixed. No reference table.
    """
    logits = np.stack(records["logits"].to_list()).astype(np.float64)
    logits = logits if context.reading_columns is None else logits[:, context.reading_columns]
    if bool((logits.argmax(axis=1) != records["pred"]).any()):
        raise NotApplicable(
            "the predictions are not those of the kept logits: the data's reading groups them, or an older run did not record it"
        )
    label = np.asarray(records["label"])
    scored = np.array([_coin(name) for name in records["sample"]])
    if not 0 < scored.sum() < len(scored):
        raise NotApplicable(f"it takes samples in both halves; here are {len(scored)} samples in one")
    log_p = log_softmax(logits / temperature(logits[~scored], label[~scored]), axis=1)
    gaps = _gaps(np.exp(log_p.max(axis=1)), logits.argmax(axis=1) == label, bins) * scored[:, None]

    def of(weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(weights @ gaps).sum(axis=1) / np.maximum((weights * scored).sum(axis=1), 1e-300))

    return Weighted(of, low=0.0, high=1.0, counted=int(scored.sum()))


def temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """The T in [0.01, 100] that makes the mean negative log-likelihood of labels (n,) under softmax(logits / T) least; logits (n, K)."""
    rows = np.arange(len(label))

    def mean_nll(log_t: float) -> float:
        return -float(log_softmax(logits / np.exp(log_t), axis=1)[rows, label].mean())

    found = minimize_scalar(mean_nll, bounds=(np.log(0.01), np.log(100.0)), method="bounded")
    return float(np.exp(found.x))


@metric(
    source="Hendrycks et al. 2021, Natural Adversarial Examples (calibration_tools.py of its code)",
    url="https://github.com/hendrycks/natural-adv-examples",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def rms_calibration_error(records: pd.DataFrame, *, beta: Annotated[int, Ge(1)] = 100) -> Weighted:
    """Root mean square calibration error over bins of `beta` samples of similar confidence, as the authors' code computes it.

    In that code the last bin runs to the end and is then skipped, so the most confident samples do not count: kept, since published numbers
    have it. Denominator: all samples of the cell, n; undefined below two bins. Bootstrap interval. No reference table.
    """
    order = np.argsort(np.asarray(records["confidence"]), kind="stable")
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)
    gaps = (np.asarray(records["confidence"], dtype=np.float64) - right)[order]
    bins = len(records) // beta - 1
    if bins < 1:
        raise NotApplicable(f"it takes at least {2 * beta} samples; here are {len(records)}")

    def error(rows: np.ndarray) -> float:
        means = gaps[rows][: bins * beta].reshape(bins, beta).mean(axis=1)
        return float(np.sqrt((beta / len(rows) * means**2).sum()))

    return Weighted(_drawn(error, order), low=0.0, high=1.0)


@metric(
    source="Hendrycks et al. 2021, Natural Adversarial Examples (calibration_tools.py of its code)",
    url="https://github.com/hendrycks/natural-adv-examples",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "confidence"),
)
def aurra(records: pd.DataFrame) -> Weighted:
    """Area under the response rate accuracy curve: accuracy on the most confident k samples, averaged over k from 1 to all.

    Denominator: all samples of the cell, n; equally confident samples are in the order of their ids. Bootstrap interval. No reference
    table.
    """
    order = np.argsort(-np.asarray(records["confidence"]), kind="stable")
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)[order]
    ranks = np.arange(1, len(right) + 1)
    return Weighted(_drawn(lambda rows: float((np.cumsum(right[rows]) / ranks).mean()), order), low=0.0, high=1.0)


def _drawn(statistic: Callable[[np.ndarray], float], order: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic of resampled rows, for Weighted: it is given places in `order`, ascending, each as often as its row was drawn."""

    def of(weights: np.ndarray) -> np.ndarray:
        places = np.arange(weights.shape[1])
        return np.array([statistic(np.repeat(places, counts)) for counts in weights[:, order].astype(np.intp)])

    return of


def _gaps(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """(n, bins): in the bin of its confidence, how far a sample's outcome (1 correct, 0 not) lies above it; 0 in the others."""
    edges = np.linspace(0.0, 1.0, bins + 1).astype(confidence.dtype)  # in the stored precision, so that 0.2 lies on the edge 0.2
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), place] = right.astype(np.float64) - confidence
    return gaps


def _coin(name: str) -> bool:
    """Which half a sample belongs to, by its id alone."""
    return bool(hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1)
