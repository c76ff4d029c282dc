"""Accuracy of transformers whose blocks compute in other orders."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Le

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted

_NEEDS = ("value_order_right", "value_order_distance", "value_order_listed")
_HALF = 0.05  # half the width of a bin of distances
_SAME = 1e-5  # how far two distances of one number of pairs may be apart as float32


@metric(
    source="Freiberger et al. 2024 (LayerShuffle)", url="https://arxiv.org/abs/2407.04513", family="lesions",
    unit="%", higher_is_better=True, needs=("value_order_right", "value_order_distance", "value_order_listed"),
)  # fmt: skip
def order_accuracy(
    records: pd.DataFrame,
    *,
    order: Literal["random", "sequential", "swapped", "reversed"] = "random",
    distance: Annotated[float, Ge(0), Le(1)] | None = None,
) -> np.ndarray:
    """Share of right predictions with the blocks in other orders, averaged over orders and samples.

    Of the analysis block_orders. order: random is the mean over the listed orders, which is that over all orders where they are few;
    swapped the mean over exchanges of two neighbours. distance: in place of an order; 0 and 1 are sequential and reversed alone, any other
    is the mean over all between these at a Kendall distance of at least 0.05 less, and less than 0.05 more; undefined where there are none.
    Denominator: all samples of the cell, n. Bootstrap over
    samples, each with all of its orders: the orders are taken as given. No reference table.
    """
    right, at, listed = (np.stack(records[name].tolist()).astype(np.float64) for name in _NEEDS)
    if distance is not None:
        inside = (at[0] > _SAME) & (at[0] < 1.0 - _SAME)
        exact = np.abs(at[0] - distance) < _SAME
        near = (at[0] >= distance - _HALF - _SAME) & (at[0] < distance + _HALF - _SAME)
        chosen = exact if distance in (0.0, 1.0) else near & inside
        if not chosen.any():
            raise NotApplicable(f"no order of the model's blocks is evaluated at a distance near {distance:g}")
    elif order == "random":
        chosen = listed[0] > 0
    else:
        wanted = {"sequential": 0.0, "reversed": 1.0, "swapped": float(at[0][at[0] > 0].min())}[order]
        chosen = np.abs(at[0] - wanted) < _SAME
    return np.asarray(right[:, chosen].mean(axis=1))


@metric(
    source="definition; of the orders of Freiberger et al. 2024 (LayerShuffle)", url="https://arxiv.org/abs/2407.04513", family="lesions",
    unit="%", higher_is_better=True, needs=("value_order_right", "value_order_distance", "value_order_listed"),
)  # fmt: skip
def worst_order_accuracy(records: pd.DataFrame) -> Weighted:
    """Accuracy under that order of blocks, of the listed ones, under which it is lowest: one order for all samples.

    Of the analysis block_orders. Denominator: all samples of the cell, n. Bootstrap over samples, with the worst order of each resample. No
    reference table.
    """
    right, listed = np.stack(records["value_order_right"].tolist()), np.stack(records["value_order_listed"].tolist())
    return worst_of(right[:, listed[0] > 0])


def worst_of(right: np.ndarray) -> Weighted:
    """The smallest mean of the columns of (n, K) shares."""
    values = right.astype(np.float64)
    return Weighted(lambda weights: np.asarray((weights @ values / weights.sum(axis=1, keepdims=True)).min(axis=1)), low=0.0, high=1.0)
