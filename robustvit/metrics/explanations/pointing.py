"""How well attribution maps agree with truth maps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.metrics.insides.sides import Side, of_side
from robustvit.spec.registry import metric


@metric(
    source="Zhang et al. 2016, Top-down Neural Attention by Excitation Backprop", url="https://arxiv.org/abs/1608.00507",
    title="pointing game", family="explanations", unit="%", higher_is_better=True, needs=("value_clean_hit", "value_{side}_hit"),
)  # fmt: skip
def pointing_hit(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of images whose patch that counts most is one that the class is written in.

    Of the analysis pointing. side: of clean images or of shifted ones; drift: the latter less the former. Denominator: all samples of the
    cell, n. Bootstrap over samples, paired. No reference table.
    """
    return of_side(records, "hit", side, drift)


@metric(
    family="explanations", source="definition", unit="%", higher_is_better=True, needs=("value_clean_iou", "value_{side}_iou"),
)  # fmt: skip
def pointing_iou(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Overlap of the patches that the class is written in with as many that count most, intersection over union.

    Of the analysis pointing. side, drift: as for pointing_hit. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No
    reference table.
    """
    return of_side(records, "iou", side, drift)


@metric(
    family="explanations", source="definition", unit="%", higher_is_better=True, needs=("value_clean_mass", "value_{side}_mass"),
)  # fmt: skip
def pointing_mass(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of an attribution map that lies where the class is written.

    Of the analysis pointing. side, drift: as for pointing_hit. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No
    reference table.
    """
    return of_side(records, "mass", side, drift)
