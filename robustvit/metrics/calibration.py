"""Whether a model is right as often as it says."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

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
