"""Which images a metric of explanations is of: clean ones, shifted ones, or the difference."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.errors import BadParameter

Side = Literal["clean", "shifted"]


def of_side(records: pd.DataFrame, name: str, side: Side, drift: bool) -> np.ndarray:
    """(n,): the column `value_{side}_{name}`; drift: less that of the clean image. Raises BadParameter for the drift of clean images."""
    if drift and side == "clean":
        raise BadParameter("drift is what shifted images have more than clean ones: give side=shifted, too.")
    values = records[f"value_{side}_{name}"].to_numpy(dtype=np.float64)
    return np.asarray(values - records[f"value_clean_{name}"].to_numpy(dtype=np.float64) if drift else values)
