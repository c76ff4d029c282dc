"""Accuracy of models that see some of the channels of an image."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.metrics.lesions.order_accuracy import worst_of
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted


@metric(
    source="Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", family="lesions", unit="%", higher_is_better=True,
    needs=("value_subset_right", "value_subset_size"),
)  # fmt: skip
def subset_accuracy(records: pd.DataFrame, *, size: Annotated[int, Ge(1)] = 1) -> np.ndarray:
    """Share of right predictions on `size` of the channels, averaged over subsets of that size and samples.

    Of the analysis channel_subsets. Undefined where images have fewer channels. Denominator: all samples of the cell, n. Bootstrap over
    samples, each with all of its subsets. No reference table.
    """
    right, sizes = _of(records)
    chosen = sizes == size
    if not chosen.any():
        raise NotApplicable(f"images have {int(sizes.max())} channels, and not {size}")
    return np.asarray(right[:, chosen].mean(axis=1))


@metric(
    source="Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", family="lesions", unit="%", higher_is_better=True,
    needs=("value_subset_right", "value_subset_size"),
)  # fmt: skip
def worst_subset_accuracy(records: pd.DataFrame) -> Weighted:
    """Accuracy on that subset of the channels on which it is lowest: one subset for all samples.

    Of the analysis channel_subsets. Denominator: all samples of the cell, n. Bootstrap over samples, with the worst subset of each
    resample. No reference table.
    """
    return worst_of(_of(records)[0])


@metric(
    source="definition; of the subsets of Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", family="lesions", unit="%",
    higher_is_better=True, needs=("value_subset_right", "value_subset_size"),
)  # fmt: skip
def subset_area(records: pd.DataFrame) -> np.ndarray:
    """Area under the accuracy over the share of channels, from one channel to all, divided by that range: the mean height of the curve.

    Of the analysis channel_subsets; trapezoids between the means of each size; of one channel the accuracy itself. Denominator: all samples
    of the cell, n. Bootstrap over samples, each with all of its subsets. No reference table.
    """
    right, sizes = _of(records)
    curve = np.stack([right[:, sizes == size].mean(axis=1) for size in np.unique(sizes)], axis=1)
    return np.asarray(curve[:, 0] if curve.shape[1] == 1 else (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2)


def _of(records: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Shares of right predictions (n, subsets), and the size of each subset."""
    right, sizes = (np.stack(records[name].tolist()).astype(np.float64) for name in ("value_subset_right", "value_subset_size"))
    return right, sizes[0].round()
