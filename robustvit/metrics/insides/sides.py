"""The sides of an analysis that measures clean images and shifted ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from robustvit.errors import BadParameter, NotApplicable

Side = Literal["clean", "shifted"]


def of_sides(name: str, side: Side, drift: bool, values: Callable[[str], Any]) -> np.ndarray:
    """What `values` makes of the column `value_SIDE_NAME`; drift: of shifted images, less that of clean ones.

    Raises BadParameter for the drift of clean images.
    """
    if drift and side == "clean":
        raise BadParameter("drift is what shifted images have more than clean ones: give side=shifted, too.")
    sides: Sequence[str] = ("shifted", "clean") if drift else (side,)
    found = [np.asarray(values(f"value_{one}_{name}")) for one in sides]
    return np.asarray(found[0] - found[1] if drift else found[0])


def of_side(records: pd.DataFrame, name: str, side: Side, drift: bool) -> np.ndarray:
    """(n,): a column of numbers, as `of_sides`."""
    return of_sides(name, side, drift, lambda column: records[column].to_numpy(dtype=np.float64))


def of_block(values: np.ndarray, block: int | None) -> np.ndarray:
    """(n,): the column of a block of (n, L) values, or their mean. Raises NotApplicable for a block that the model does not have."""
    if block is not None and block >= values.shape[1]:
        raise NotApplicable(f"the model has {values.shape[1]} blocks, 0 to {values.shape[1] - 1}")
    return np.asarray(values.mean(axis=1) if block is None else values[:, block])
