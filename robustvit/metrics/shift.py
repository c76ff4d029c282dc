"""Distribution shifts: accuracy in both readings, and its gap to the same classes of the validation set."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans


@metric(title="top-1 accuracy among 1000 classes", source="definition", unit="%", higher_is_better=True, needs=("label", "pred_1000way"))
def top1_1000way(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is the most likely of all thousand classes, on data labelled with some of them.

    Denominator: all samples of the cell, n. `top1` of the same rows compares the data's own classes only (the reading `mask`), and is never
    lower. On data of all thousand classes there is only one reading, which is top1. Wilson interval. No reference table.
    """
    return np.asarray(records["pred_1000way"] == records["label"], dtype=np.float64)


@metric(
    title="top-1 accuracy among the classes present", source="definition", unit="%", higher_is_better=True, needs=("label", "pred_mask")
)
def top1_mask(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is the most likely of the data's own classes, on data that scores by all thousand (ObjectNet).

    Denominator: all samples of the cell, n. `top1` of the same rows compares all thousand, and is never higher. Wilson interval. No
    reference table.
    """
    return np.asarray(records["pred_mask"] == records["label"], dtype=np.float64)


@metric(
    source="Hendrycks et al. 2021, The Many Faces of Robustness", unit="%", higher_is_better=False, over="model", needs=("label", "pred")
)
def accuracy_gap(means: CellMeans, *, shift: Literal["imagenet-a", "imagenet-r"]) -> np.ndarray:
    """Accuracy on the validation images of a shifted set's 200 classes minus accuracy on the shifted set, both read among the 200.

    Denominators: the images of either; they are different images, so their resamples are independent. No reference table.
    """
    shifted, same = means.apart([shift, f"val-of-{shift}"])
    return np.asarray(shifted - same)


@metric(source="Xiao et al. 2021, Noise or Signal", unit="%", higher_is_better=False, over="model", needs=("label", "pred"))
def background_gap(means: CellMeans) -> np.ndarray:
    """BG-Gap: accuracy with backgrounds from images of the same class (mixed_same) minus that with backgrounds from any (mixed_rand).

    Denominator: the images of either variant, 4,050 where all are there; their resamples are independent. No reference table.
    """
    anywhere, alike = means.apart(["mixed_rand", "mixed_same"])
    return np.asarray(anywhere - alike)
