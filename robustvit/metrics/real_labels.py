"""Accuracy on the reassessed labels of ImageNet (ReaL)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric


@metric(
    title="top-1 accuracy on ReaL labels",
    source="Beyer et al. 2020, Are we done with ImageNet?", url="https://github.com/google-research/reassessed-imagenet", unit="%",
    higher_is_better=True, needs=("pred", "fact_real"),
)  # fmt: skip
def top1_real(records: pd.DataFrame) -> np.ndarray:
    """Share of images whose most likely class is one of those that the raters saw in them.

    Denominator: the images that have a reassessed label, 46,837 of the 50,000 of val; the 3,163 with none are left out. Classes: all
    thousand. Computed on `imagenet?labels=real`, whose top1 is that on the original labels, and on `imagenet-hard`, all of whose images
    have one or several right labels. Wilson interval. No reference table.
    """
    pairs = zip(records["pred"], records["fact_real"], strict=True)
    return np.array([float(pred in set(labels)) if len(labels) else np.nan for pred, labels in pairs], dtype=np.float64)
