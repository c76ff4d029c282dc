"""How often each sample is predicted rightly: once, or under the new draws of a random model."""

from __future__ import annotations

import numpy as np
import pandas as pd

DRAWN = ("draws", "draws_right")  # the columns of a model with randomness of its own, which any cell may have


def correct_share(records: pd.DataFrame) -> np.ndarray:
    """(n,) 1 where a sample's prediction is its label, else 0; of a random model the share of its new draws under which it is.

    The draws of different samples are independent, so that the interval of the mean of these shares covers both kinds of chance, of the
    samples and of the draws.
    """
    right = np.asarray(np.equal(records["pred"].to_numpy(), records["label"].to_numpy()), dtype=np.float64)
    if not set(DRAWN) <= set(records):
        return right
    draws, counted = (np.asarray(records[name], dtype=np.float64) for name in DRAWN)
    return np.where(np.isnan(draws), right, counted / draws)
