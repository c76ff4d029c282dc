"""Right or wrong: the share of samples whose label is the first, or among the first five, of the model's answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.registry import metric


@metric(source="definition", unit="%", higher_is_better=True, needs=("label", "pred"))
def top1(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose most likely class is their label.

    Denominator: all samples of the cell, n. Classes: those of the data's first reading, no mask beyond it; ties go to the lowest class.
    On an attack's cell these are the samples after the attack. Wilson interval. No reference table.
    """
    return np.asarray(records["pred"] == records["label"], dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=True, needs=("rank",))
def top5(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is among the five most likely classes.

    Denominator: all samples of the cell, n. Classes: those of the data's first reading; with five classes or fewer it is 100 by
    definition. Ties go to the lowest class. Wilson interval. No reference table.
    """
    return np.asarray(records["rank"] <= 5, dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=False, needs=("label", "pred"))
def error(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose most likely class is not their label: 100 − top1.

    Denominator: all samples of the cell, n. Classes, ties and interval as for top1. No reference table.
    """
    return np.asarray(records["pred"] != records["label"], dtype=np.float64)
