"""Whether the parts that a model finds move with the image and survive what shifts it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.errors import BadParameter
from robustvit.spec.registry import metric

_SOURCE = "Aniraj et al. 2024 (PDiscoFormer); the measure is ours"
_URL = "https://arxiv.org/abs/2407.04538"


@metric(
    source=_SOURCE, url=_URL, family="insides", unit="%", higher_is_better=True, needs=("value_clean_part_iou", "value_{side}_part_iou"),
)  # fmt: skip
def part_equivariance(records: pd.DataFrame, *, side: Literal["clean", "shifted"] = "clean", drift: bool = False) -> np.ndarray:
    """Intersection over union of the parts of a moved image and the moved parts of the image: 100 where parts move with it.

    Of the analysis part_consistency. side: of clean images or of shifted ones; drift: the latter less the former. Denominator: all samples
    of the cell, n. Bootstrap over samples, paired. No reference table.
    """
    if drift and side == "clean":
        raise BadParameter("drift is what shifted images have more than clean ones: give side=shifted, too.")
    values = records[f"value_{side}_part_iou"].to_numpy(np.float64)
    return values - records["value_clean_part_iou"].to_numpy(np.float64) if drift else values


@metric(source=_SOURCE, url=_URL, family="insides", unit="%", higher_is_better=True, needs=("value_part_agreement",))
def part_agreement(records: pd.DataFrame) -> np.ndarray:
    """Share of pixels that are assigned to the same part, or to the background, in the clean image and in the shifted one.

    Of the analysis part_consistency with a corruption or an attack. Denominator: all samples of the cell, n. Bootstrap over samples. No
    reference table.
    """
    return records["value_part_agreement"].to_numpy(np.float64)


@metric(source=_SOURCE, url=_URL, family="insides", unit="%", higher_is_better=True, needs=("value_part_overlap",))
def part_overlap(records: pd.DataFrame) -> np.ndarray:
    """Intersection over union of the parts of the clean image and of the shifted one, averaged over parts without the background.

    Of the analysis part_consistency with a corruption or an attack. Denominator: all samples of the cell, n. Bootstrap over samples. No
    reference table.
    """
    return records["value_part_overlap"].to_numpy(np.float64)


@metric(source="definition", family="insides", unit="", descriptive=True, needs=("value_clean_part_count", "value_{side}_part_count"))
def part_count(records: pd.DataFrame, *, side: Literal["clean", "shifted"] = "clean") -> np.ndarray:
    """How many parts occur in an image, the background not among them; neither more nor less is better.

    Of the analysis part_consistency. side: of clean images or of shifted ones. Denominator: all samples of the cell, n. Bootstrap over
    samples. No reference table.
    """
    return records[f"value_{side}_part_count"].to_numpy(np.float64)
