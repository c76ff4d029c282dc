"""How alike attribution maps of clean and of shifted images are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric


@metric(
    source="Ghorbani et al. 2019, Interpretation of Neural Networks is Fragile", url="https://arxiv.org/abs/1710.10547",
    family="explanations", unit="", higher_is_better=True, needs=("value_spearman", "value_same_answer"),
)  # fmt: skip
def attribution_rank_correlation(records: pd.DataFrame, *, unchanged: bool = True) -> np.ndarray:
    """Spearman's rank correlation of the attribution maps of a clean image and of the shifted one: 1 where no order changes, 0 by chance.

    Of the analysis attribution_drift. unchanged: of the images whose prediction stays alone; False takes all. Denominator: those of the
    cell, less those with a constant map. Bootstrap over samples, paired. No reference table.
    """
    return _where_unchanged(records, "value_spearman", unchanged)


@metric(
    source="Ghorbani et al. 2019, Interpretation of Neural Networks is Fragile", url="https://arxiv.org/abs/1710.10547",
    family="explanations", unit="%", higher_is_better=True, needs=("value_top_iou", "value_same_answer"),
)  # fmt: skip
def attribution_top_iou(records: pd.DataFrame, *, unchanged: bool = True) -> np.ndarray:
    """Overlap of the patches that count most in the attribution maps of a clean image and of the shifted one, intersection over union.

    Of the analysis attribution_drift. unchanged: of the images whose prediction stays alone; False takes all. Denominator: those of the
    cell. Bootstrap over samples, paired. No reference table.
    """
    return _where_unchanged(records, "value_top_iou", unchanged)


def _where_unchanged(records: pd.DataFrame, column: str, unchanged: bool) -> np.ndarray:
    """(n,): the column, NaN where the prediction changed and is not to count."""
    counted = (records["value_same_answer"] == 1).to_numpy() | (not unchanged)
    return np.asarray(np.where(counted, records[column].to_numpy(dtype=np.float64), np.nan))
