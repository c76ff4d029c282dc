"""Accuracy of transformers without some of their blocks."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric


@metric(
    source="Freiberger et al. 2024 (LayerShuffle), pruning at test time", url="https://arxiv.org/abs/2407.04513", family="lesions",
    unit="%", higher_is_better=True, needs=("value_removed_right", "value_removed_count"),
)  # fmt: skip
def removed_blocks_accuracy(records: pd.DataFrame, *, count: Annotated[int, Ge(0)] = 1) -> np.ndarray:
    """Share of right predictions without `count` of the blocks, averaged over the subsets that are removed and over samples.

    Of the analysis removed_blocks. Undefined where the model has no more blocks. Denominator: all samples of the cell, n. Bootstrap over
    samples, each with all of its subsets. No reference table.
    """
    right, counts = np.stack(records["value_removed_right"].tolist()), np.stack(records["value_removed_count"].tolist())
    chosen = counts[0].round() == count
    if not chosen.any():
        raise NotApplicable(f"the model has {int(counts[0].max()) + 1} blocks, of which {count} cannot be removed")
    return np.asarray(right[:, chosen].astype(np.float64).mean(axis=1))
