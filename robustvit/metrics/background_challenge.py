"""Accuracy of objects on the worst background (the background challenge)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric


@metric(
    source="Xiao et al. 2021, Noise or Signal, section 4",
    url="https://github.com/MadryLab/backgrounds_challenge",
    unit="%",
    higher_is_better=True,
    needs=("value_robust",),
)
def challenge_accuracy(records: pd.DataFrame) -> np.ndarray:
    """Share of foregrounds that are classified correctly on every background.

    Denominator: all foregrounds of the cell, n, 4,050 where all are there; those misclassified on their own image are tested like the
    others. The authors' leaderboard shows this share (ResNet-50: 22.3); their script prints its complement, the vulnerable foregrounds.
    Wilson interval. No reference table.
    """
    return np.asarray(records["value_robust"], dtype=np.float64)
