"""Whether a model is right as often as it says."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.judging import Weighted
from robustvit.registry import metric


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
    confidence = np.asarray(records["confidence"])
    edges = np.linspace(0.0, 1.0, bins + 1).astype(confidence.dtype)  # in the stored precision, so that 0.2 lies on the edge 0.2
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)
    gaps = np.zeros((len(records), bins))
    gaps[np.arange(len(records)), place] = right - confidence
    return Weighted(lambda weights: np.abs(weights @ gaps.astype(weights.dtype)).sum(axis=1) / weights.sum(axis=1), low=0.0, high=1.0)


@metric(
    source="Hendrycks et al. 2021, Natural Adversarial Examples (calibration_tools.py of its code)",
    url="https://github.com/hendrycks/natural-adv-examples",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "confidence"),
)
def rms_calibration_error(records: pd.DataFrame, *, beta: Annotated[int, Ge(1)] = 100) -> float:
    """Root mean square calibration error over bins of `beta` samples of like confidence, as the authors' code computes it.

    That code lets the last bin run to the end and then skips it, so the most confident samples do not count: kept, since published numbers have it.
    Denominator: all samples of the cell, n; n/a below two bins. Bootstrap interval. No reference table.
    """
    order = np.argsort(np.asarray(records["confidence"]), kind="stable")
    confidence = np.asarray(records["confidence"], dtype=np.float64)[order]
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)[order]
    bins = len(records) // beta - 1
    if bins < 1:
        raise NotApplicable(f"it takes at least {2 * beta} samples; here are {len(records)}")
    gaps = (confidence - right)[: bins * beta].reshape(bins, beta).mean(axis=1)
    return float(np.sqrt((beta / len(records) * gaps**2).sum()))


@metric(
    source="Hendrycks et al. 2021, Natural Adversarial Examples (calibration_tools.py of its code)",
    url="https://github.com/hendrycks/natural-adv-examples",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "confidence"),
)
def aurra(records: pd.DataFrame) -> float:
    """Area under the response rate accuracy curve: accuracy on the most confident k samples, averaged over k from 1 to all.

    Denominator: all samples of the cell, n; equally confident samples stand in the order of their ids. Bootstrap interval. No reference table.
    """
    order = np.argsort(-np.asarray(records["confidence"]), kind="stable")
    right = np.asarray(records["pred"] == records["label"], dtype=np.float64)[order]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1)).mean())
