"""What an attack left standing: two shares with two denominators, never mixed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.registry import metric


@metric(source="Croce and Hein 2020 (AutoAttack); Dong et al. 2020", unit="%", higher_is_better=True, needs=("label", "pred", "attacked"))
def robust_accuracy(records: pd.DataFrame) -> np.ndarray:
    """Share of samples answered rightly after the attack.

    Denominator: all samples of the cell, n, including those that were wrong before it (they count as wrong). An upper bound: a stronger
    attack may do more. Wilson interval. No reference table.
    """
    standing = (records["pred"] == records["label"]) & records["attacked"].astype(bool)
    return np.asarray(standing, dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=False, needs=("label", "pred", "attacked"))
def attack_success(records: pd.DataFrame) -> np.ndarray:
    """Share of the attacked samples that the attack flipped.

    Denominator: the samples that were right when clean, which are the ones attacked; `n` counts them alone. (Counting clean errors as
    successes gives a higher number: 100 − robust_accuracy.) Wilson interval. No reference table.
    """
    flipped = np.asarray(records["pred"] != records["label"], dtype=np.float64)
    return np.where(np.asarray(records["attacked"].astype(bool)), flipped, np.nan)
