"""What attention heads do for predictions, and accuracy without them."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Le

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted

_NEAR = 0.03  # of a share of heads: half a head of sixteen


@metric(
    source="Michel et al. 2019 (the curve)", url="https://arxiv.org/abs/1905.10650", family="lesions", unit="%", higher_is_better=True,
    needs=("value_heads_right", "value_heads_share"),
)  # fmt: skip
def removed_heads_accuracy(records: pd.DataFrame, *, share: Annotated[float, Ge(0), Le(1)] = 0.5) -> np.ndarray:
    """Share of right predictions without a share of the attention heads, rounded to whole heads.

    Of the analysis head_removal, averaged over its random orders where it has several. Undefined where no step of it is within 0.03 of the
    share. Denominator: all samples of the cell, n. Bootstrap over samples, each with all of its orders. No reference table.
    """
    right, shares = np.stack(records["value_heads_right"].tolist()), np.stack(records["value_heads_share"].tolist())[0]
    place = int(np.abs(shares - share).argmin())
    if abs(float(shares[place]) - share) > _NEAR:
        raise NotApplicable(f"no step of the analysis removes about {share:g} of the heads; the nearest removes {shares[place]:.3g}")
    return np.asarray(right[:, place], dtype=np.float64)


@metric(
    source="definition; after Li et al. 2023, How Does Attention Work in Vision Transformers?", url="https://arxiv.org/abs/2303.13731",
    family="lesions", unit="%", higher_is_better=False, needs=("value_{of}",),
)  # fmt: skip
def mean_head_effect(records: pd.DataFrame, *, of: Literal["drop_label", "drop_answer", "js", "flip"] = "flip") -> np.ndarray:
    """What a single attention head does for predictions, on average over heads and samples.

    Of the analysis head_importance. of: drop_label and drop_answer, by how much the probability of the label, or of the predicted class,
    falls; js, the divergence of the probabilities as a share of one bit; flip, how often another class is predicted. Denominator: all
    samples of the cell, n. Bootstrap over samples, each with all heads. No reference table.
    """
    return np.asarray(np.stack(records[f"value_{of}"].tolist()).mean(axis=1), dtype=np.float64)


@metric(
    source="definition; after Li et al. 2023, How Does Attention Work in Vision Transformers?", url="https://arxiv.org/abs/2303.13731",
    family="lesions", unit="%", higher_is_better=False, needs=("value_{of}",),
)  # fmt: skip
def largest_head_effect(records: pd.DataFrame, *, of: Literal["drop_label", "drop_answer", "js", "flip"] = "flip") -> Weighted:
    """What the single attention head does for predictions that does most, on average over samples: one head for all of them.

    Of the analysis head_importance. of: as for mean_head_effect. Denominator: all samples of the cell, n. Bootstrap over samples, with the
    head of each resample; Wilson's interval where no head does anything for any sample (js, flip). No reference table.
    """
    values = np.stack(records[f"value_{of}"].tolist()).astype(np.float64)
    low = 0.0 if of in ("js", "flip") else -1.0  # no probability falls below 0, and a difference of two may be negative
    return Weighted(lambda weights: np.asarray((weights @ values / weights.sum(axis=1, keepdims=True)).max(axis=1)), low=low, high=1.0)
