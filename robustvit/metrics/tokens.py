"""What a model that computes on fewer tokens spends on an image."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric


@metric(
    title="multiply-accumulate operations",
    source="definition; multiply-accumulate operations as Liang et al. 2022 (EViT) count them", url="https://arxiv.org/abs/2202.07800",
    family="cost", unit="GMACs", higher_is_better=False, needs=("value_gmacs",),
)  # fmt: skip
def gmacs(records: pd.DataFrame) -> np.ndarray:
    """Billions of multiply-accumulate operations of an image, on average, of a model that computes on fewer tokens.

    Of the images as the scenario left them: beside `clean` it tells what a corruption or an attack makes the model spend. Denominator: all
    samples of the cell, n. Bootstrap over samples; where every image costs the same the interval is that number. No reference table.
    """
    return np.asarray(records["value_gmacs"], dtype=np.float64)


@metric(family="cost", source="definition", unit="tokens", higher_is_better=False, needs=("value_tokens",))
def tokens(records: pd.DataFrame, *, block: Annotated[int, Ge(0)] | None = None) -> np.ndarray:
    """Tokens that a block computes on, on average over images.

    block: counted from 0; None is the mean over all blocks. Denominator: all samples of the cell, n. Bootstrap over samples. No reference
    table.
    """
    every = np.stack(records["value_tokens"].tolist())
    if block is not None and block >= every.shape[1]:
        raise NotApplicable(f"the model has {every.shape[1]} blocks, 0 to {every.shape[1] - 1}")
    return np.asarray(every.mean(axis=1) if block is None else every[:, block], dtype=np.float64)


@metric(
    source="Yehezkel et al. 2024, DeSparsify (token utilisation ratio)", url="https://arxiv.org/abs/2402.02554", family="cost", unit="%",
    higher_is_better=False, needs=("value_token_utilisation",),
)  # fmt: skip
def token_utilisation(records: pd.DataFrame) -> np.ndarray:
    """Share of its tokens that a model computes on, on average over blocks and images.

    Prefix tokens count. Compare a cell of `inflate` with `clean`: what an attack makes an adaptive model spend. Denominator: all samples of
    the cell, n. Bootstrap over samples. No reference table.
    """
    return np.asarray(records["value_token_utilisation"], dtype=np.float64)


@metric(
    source="definition; selection overlap of token reducers", unit="%", higher_is_better=True, needs=("value_token_iou",),
)  # fmt: skip
def token_overlap(records: pd.DataFrame) -> np.ndarray:
    """Overlap of the tokens kept of a clean and of a shifted image, intersection over union, on average over images.

    Of the analysis token_choice. Denominator: all samples of the cell, n. Bootstrap over samples. No reference table.
    """
    return np.asarray(records["value_token_iou"], dtype=np.float64)
