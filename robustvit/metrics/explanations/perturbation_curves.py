"""Areas under the curves of positive and negative perturbation: how faithful an attribution is to its model."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.metrics.insides.sides import Side, of_side
from robustvit.spec.registry import metric

Area = Literal["auc", "auc_label"]


@metric(
    source="Chefer et al. 2021, Transformer Interpretability Beyond Attention Visualization", url="https://arxiv.org/abs/2012.09838",
    title="positive perturbation AUC", family="explanations", unit="%", higher_is_better=False,
    needs=("value_clean_positive_{of}", "value_{side}_positive_{of}"),
)  # fmt: skip
def positive_auc(records: pd.DataFrame, *, of: Area = "auc", side: Side = "clean", drift: bool = False) -> np.ndarray:
    """The mean probability of the prediction while patches are removed, those that count most first: the lower, the more faithful.

    Of the analysis faithfulness. of: auc, of the class predicted of the intact image; auc_label, of the label. side: of clean images or of
    shifted ones; drift: the latter less the former. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference
    table.
    """
    return of_side(records, f"positive_{of}", side, drift)


@metric(
    source="Chefer et al. 2021, Transformer Interpretability Beyond Attention Visualization", url="https://arxiv.org/abs/2012.09838",
    title="negative perturbation AUC", family="explanations", unit="%", higher_is_better=True,
    needs=("value_clean_negative_{of}", "value_{side}_negative_{of}"),
)  # fmt: skip
def negative_auc(records: pd.DataFrame, *, of: Area = "auc", side: Side = "clean", drift: bool = False) -> np.ndarray:
    """The mean probability of the prediction while patches are removed, those that count least first: the higher, the more faithful.

    Of the analysis faithfulness. of, side, drift: as for positive_auc. Denominator: all samples of the cell, n. Bootstrap over samples,
    paired. No reference table.
    """
    return of_side(records, f"negative_{of}", side, drift)


@metric(
    source="definition; negative less positive perturbation AUC of Chefer et al. 2021", url="https://arxiv.org/abs/2012.09838",
    title="perturbation AUC gap", family="explanations", unit="%", higher_is_better=True,
    needs=("value_clean_positive_{of}", "value_{side}_positive_{of}", "value_clean_negative_{of}", "value_{side}_negative_{of}"),
)  # fmt: skip
def perturbation_auc_gap(records: pd.DataFrame, *, of: Area = "auc", side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Negative less positive perturbation AUC of each image: how much more it rests on what counts most than on what counts least.

    Of the analysis faithfulness: 0 for a constant map, and 0 on average for a random one. of, side, drift: as for positive_auc.
    Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference table.
    """
    return np.asarray(of_side(records, f"negative_{of}", side, drift) - of_side(records, f"positive_{of}", side, drift))
