"""Top-1 and top-5 accuracy, in the classes of the data's readings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric
from robustvit.statistics.correctness import correct_share


@metric(title="top-1 accuracy", source="definition", unit="%", higher_is_better=True, needs=("label", "pred"))
def top1(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose most likely class is their label.

    Denominator: all samples of the cell, n. Classes: those of the data's first reading, no mask beyond it; ties go to the lowest class.
    On an attack's cell these are the samples after the attack. Of a model with randomness of its own each sample counts with the share of
    new draws under which it is right. Wilson interval; of a random model bootstrap over samples. No reference table.
    """
    return correct_share(records)


@metric(title="top-5 accuracy", source="definition", unit="%", higher_is_better=True, needs=("rank",))
def top5(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is among the five most likely classes.

    Denominator: all samples of the cell, n. Classes: those of the data's first reading; with five classes or fewer it is 100 by
    definition. Ties go to the lowest class. Wilson interval. No reference table.
    """
    return np.asarray(records["rank"] <= 5, dtype=np.float64)


@metric(title="top-5 accuracy among 1000 classes", source="definition", unit="%", higher_is_better=True, needs=("rank_1000way",))
def top5_1000way(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is among the five most likely of all thousand classes, on data labelled with some of them.

    Denominator: the samples of the cell, n; those that an earlier version recorded without this rank are left out. Ties go to the lower
    class among the data's own, and to these before others. Wilson interval. No reference table.
    """
    rank = np.asarray(records["rank_1000way"], dtype=np.float64)
    return np.where(np.isnan(rank), np.nan, rank <= 5)


@metric(source="definition", unit="%", higher_is_better=False, needs=("label", "pred"))
def error(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose most likely class is not their label: 100 − top1.

    Denominator: all samples of the cell, n. Classes, ties, draws and interval as for top1. No reference table.
    """
    return 1.0 - correct_share(records)
