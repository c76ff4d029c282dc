"""How well patches that are similar to annotated ones agree with truth maps, and whether similarities stay when images shift."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.metrics.insides.sides import Side, of_side
from robustvit.spec.registry import metric

_SOURCE = "Engel et al. 2024, Segmentation-based Transfer Function Design (the selection); the measure is ours"
_URL = "https://arxiv.org/abs/2309.01408"


@metric(
    source=_SOURCE, url=_URL, title="selection IoU", family="explanations", unit="%", higher_is_better=True,
    needs=("value_clean_selection", "value_{side}_selection"),
)  # fmt: skip
def selection_iou(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Overlap of the patches that the class is written in with those similar to a few annotated ones, intersection over union.

    Of the analysis selection. side: of clean images or of shifted ones, at the threshold of the clean image; drift: the latter less the
    former. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference table.
    """
    return of_side(records, "selection", side, drift)


@metric(source=_SOURCE, url=_URL, family="explanations", unit="", higher_is_better=True, needs=("value_selection_rank",))
def selection_rank_correlation(records: pd.DataFrame) -> np.ndarray:
    """Spearman's rank correlation, over patches, of the similarities to annotated ones in a clean image and in the shifted one.

    Of the analysis selection with a corruption or an attack: 1 where no order changes, 0 by chance. Denominator: all samples of the cell,
    less those whose similarities are all equal. Bootstrap over samples. No reference table.
    """
    return records["value_selection_rank"].to_numpy(dtype=np.float64)
