"""Proper scores of the predicted probabilities: negative log-likelihood and Brier score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric


@metric(title="negative log-likelihood", source="definition", unit="nat", higher_is_better=False, needs=("nll",))
def nll(records: pd.DataFrame) -> np.ndarray:
    """Mean negative log-likelihood of the label, in nats.

    Denominator: all samples of the cell, n. Softmax over the classes of the data's first reading, without temperature. Bootstrap
    interval. No reference table.
    """
    return np.asarray(records["nll"], dtype=np.float64)


@metric(
    title="Brier score",
    source="Brier 1950, Verification of forecasts expressed in terms of probability",
    higher_is_better=False,
    needs=("brier",),
)
def brier(records: pd.DataFrame) -> np.ndarray:
    """Mean squared distance of the probabilities from the one-hot label, summed over classes: in [0, 2], Brier's original scale.

    Denominator: all samples of the cell, n; not divided by the number of classes (some libraries do, or halve it for two classes).
    Bootstrap interval. No reference table.
    """
    return np.asarray(records["brier"], dtype=np.float64)
