"""How much of accuracy and of predictions depends on position embeddings."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric

Lesion = Literal["dropped", "mean", "shuffled"]


@metric(
    source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576", family="lesions", unit="%",
    higher_is_better=False, needs=("value_position_right", "value_{lesion}_right"),
)  # fmt: skip
def position_reliance(records: pd.DataFrame, *, lesion: Lesion = "shuffled") -> np.ndarray:
    """Accuracy as the model is less accuracy under a lesion of its position embeddings, in percentage points.

    Of the analysis position_reliance. Denominator: all samples of the cell, n. Bootstrap over samples, paired; shuffles are averaged for
    each. No reference table.
    """
    return np.asarray(records["value_position_right"], dtype=np.float64) - np.asarray(records[f"value_{lesion}_right"], dtype=np.float64)


@metric(
    source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576", family="lesions", unit="%",
    higher_is_better=True, needs=("value_{lesion}_right",),
)  # fmt: skip
def position_lesion_accuracy(records: pd.DataFrame, *, lesion: Lesion = "shuffled") -> np.ndarray:
    """Share of right predictions under a lesion of the position embeddings.

    Of the analysis position_reliance. Denominator: all samples of the cell, n. Bootstrap over samples; shuffles are averaged for each. No
    reference table.
    """
    return np.asarray(records[f"value_{lesion}_right"], dtype=np.float64)


@metric(
    source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576", family="lesions", unit="%",
    higher_is_better=True, needs=("value_{lesion}_agree",),
)  # fmt: skip
def position_agreement(records: pd.DataFrame, *, lesion: Lesion = "shuffled") -> np.ndarray:
    """Share of samples whose prediction stays under a lesion of the position embeddings.

    Of the analysis position_reliance. Denominator: all samples of the cell, n. Bootstrap over samples; shuffles are averaged for each. No
    reference table.
    """
    return np.asarray(records[f"value_{lesion}_agree"], dtype=np.float64)


@metric(
    source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576", family="lesions", unit="nats",
    higher_is_better=False, needs=("value_{lesion}_kl",),
)  # fmt: skip
def position_divergence(records: pd.DataFrame, *, lesion: Lesion = "shuffled") -> np.ndarray:
    """Kullback-Leibler divergence from the model's probabilities to those under a lesion of its position embeddings.

    Of the analysis position_reliance. Denominator: all samples of the cell, n. Bootstrap over samples; shuffles are averaged for each. No
    reference table.
    """
    return np.asarray(records[f"value_{lesion}_kl"], dtype=np.float64)
