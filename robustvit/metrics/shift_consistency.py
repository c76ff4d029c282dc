"""How much predictions and logits depend on where in the image its content is, from the analyses of shifts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric

_DING = "Ding et al. 2023, Reviving Shift Equivariance in Vision Transformers"
_URL = "https://arxiv.org/abs/2306.07470"


@metric(
    source="Zhang 2019, Making Convolutional Networks Shift-Invariant Again (ICML), consistency", url="https://arxiv.org/abs/1904.11486",
    unit="%", higher_is_better=True, needs=("value_shift_consistency",),
)  # fmt: skip
def shift_consistency(records: pd.DataFrame) -> np.ndarray:
    """Share of pairs of shifts of one image under which the model predicts the same class, right or wrong.

    The pairs of an image count together: its value is the share of them, or, of a whole grid, the probability that two shifts drawn from it
    agree. A model that predicts one class always has 100 %: read it beside shifted_accuracy. Denominator: all samples of the cell, n.
    Bootstrap over samples; Wilson interval of one pair each. No reference table.
    """
    return np.asarray(records["value_shift_consistency"], dtype=np.float64)


@metric(source=_DING, url=_URL, unit="%", higher_is_better=True, needs=("value_shifted_right",))
def shifted_accuracy(records: pd.DataFrame) -> np.ndarray:
    """Share of shifted images that are classified correctly, on average over the shifts of an image and over images.

    Denominator: the samples of the cell that have a label, n. Bootstrap over samples. The worst shift is the attack worst_shift. No
    reference table.
    """
    return np.asarray(records["value_shifted_right"], dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=True, needs=("value_unshifted_agreement",))
def unshifted_agreement(records: pd.DataFrame) -> np.ndarray:
    """Share of the shifts of a grid under which the model predicts what it predicts of the unshifted image.

    Of the analysis shift_consistency with `grid`; the unshifted image itself does not count. Denominator: all samples of the cell, n, each
    with all its shifts. Bootstrap over samples. No reference table.
    """
    return np.asarray(records["value_unshifted_agreement"], dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=True, needs=("value_all_agree",))
def worst_shift_consistency(records: pd.DataFrame) -> np.ndarray:
    """Share of images of which the model predicts one class under every shift of a grid.

    Of the analysis shift_consistency with `grid`. Denominator: all samples of the cell, n. Wilson interval. No reference table.
    """
    return np.asarray(records["value_all_agree"], dtype=np.float64)


@metric(source=_DING + ", stability", url=_URL, unit="", higher_is_better=False, needs=("value_logit_variance",))
def logit_variance(records: pd.DataFrame) -> np.ndarray:
    """Variance of the logit of an image's own class over diagonal shifts, on average over images.

    Of the analysis diagonal_shifts, in squared logits: it depends on the scale of a model's logits. Denominator: the samples of the cell
    that have a label, n. Bootstrap over samples. No reference table.
    """
    return np.asarray(records["value_logit_variance"], dtype=np.float64)
