"""Of samples ranked by confidence: RMS calibration error, accuracy by response rate, risk by coverage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge, Gt, Le

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted


@metric(
    title="RMS calibration error",
    source="Hendrycks et al. 2021, Natural Adversarial Examples (calibration_tools.py of its code)",
    url="https://github.com/hendrycks/natural-adv-examples",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def rms_calibration_error(records: pd.DataFrame, *, beta: Annotated[int, Ge(1)] = 100) -> Weighted:
    """Root mean square calibration error over bins of `beta` samples of similar confidence, as the authors' code computes it.

    In that code the last bin runs to the end and is then skipped, so the most confident samples do not count: kept, since published numbers
    have it. Denominator: all samples of the cell, n; undefined below two bins. A plug-in estimate, too high on average: the interval is
    of its expectation at this n, as for ece; rms_calibration_debiased has one of the model's error. No reference table.
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

    return Weighted(_drawn(error, order), low=0.0, high=1.0, centred=True)


@metric(
    title="area under the response rate accuracy curve",
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


@metric(
    title="area under the risk-coverage curve",
    source="Geifman, Uziel and El-Yaniv 2019, Bias-Reduced Uncertainty Estimation (AURC)",
    url="https://arxiv.org/abs/1805.08206",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def aurc(records: pd.DataFrame) -> Weighted:
    """Area under the risk-coverage curve: the error on the most confident k samples, averaged over k from 1 to all. 100 − aurra.

    Denominator: all samples of the cell, n; equally confident samples are in the order of their ids. 0 is an ideal ranking of a model
    without errors: compare models of like accuracy, or read it beside `error`. Bootstrap interval. No reference table.
    """
    accepted = aurra(records)
    return Weighted(lambda weights: 1.0 - accepted.of(weights), low=0.0, high=1.0)


@metric(
    source="El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selective Classification; Geifman and El-Yaniv 2017",
    url="https://arxiv.org/abs/1705.08500",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def risk_at_coverage(records: pd.DataFrame, *, coverage: Annotated[float, Gt(0), Le(1)] = 0.8) -> Weighted:
    """Selective risk: the error on the most confident samples when the model answers on a share `coverage` of them.

    These are the ⌈coverage · n⌉ most confident; equally confident samples are in the order of their ids. Denominator: those samples; n
    counts them. Bootstrap interval: each resample accepts the same share of its own samples. No reference table.
    """
    order = np.argsort(-np.asarray(records["confidence"]), kind="stable")
    wrong = np.asarray(records["pred"] != records["label"], dtype=np.float64)[order]
    accepted = int(np.ceil(coverage * len(order) - 1e-9))
    return Weighted(_drawn(lambda rows: float(wrong[rows[:accepted]].mean()), order), low=0.0, high=1.0, counted=accepted)


def _drawn(statistic: Callable[[np.ndarray], float], order: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic of resampled rows, for Weighted: it is given places in `order`, ascending, each as often as its row was drawn."""

    def of(weights: np.ndarray) -> np.ndarray:
        places = np.arange(weights.shape[1])
        return np.array([statistic(np.repeat(places, counts)) for counts in weights[:, order].astype(np.intp)])

    return of
