"""Whether input gradients are reliable, from the analysis loss_surface: on how many images they mislead."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric

DISAGREES = 0.5  # a factor of two: where gradients are honest the two slopes differ by a hundredth, where they are masked by all of it


@metric(
    source="Athalye, Carlini and Wagner 2018, section 3.1, as a measure of ours",
    url="https://arxiv.org/abs/1802.00420",
    unit="%",
    higher_is_better=False,
    needs=("value_slope_error", "gradient"),
)
def slope_disagreement(records: pd.DataFrame) -> np.ndarray:
    """Share of images whose input gradient is not the slope of the loss: it differs from a finite difference by a factor above two.

    A gradient that is not finite is no slope either. Denominator: the images of the cell whose gradient is the model's own; n leaves out
    those where a surrogate replaces it (straight-through), which is no slope by design. Wilson interval. No reference table: 0 for honest
    gradients.
    """
    wrong = (records["value_slope_error"] > DISAGREES) | (records["gradient"] == "not finite")
    disagrees = np.asarray(wrong, dtype=np.float64)
    return np.where(np.asarray(records["gradient"] == "straight-through"), np.nan, disagrees)


@metric(
    source="Athalye, Carlini and Wagner 2018, section 3.1, as a measure of ours",
    url="https://arxiv.org/abs/1802.00420",
    unit="%",
    higher_is_better=False,
    needs=("value_step_gain", "value_random_gain"),
)
def random_step_wins(records: pd.DataFrame) -> np.ndarray:
    """Share of images on which one of a few random steps raises the loss more than the step along the gradient's sign of the same length.

    Denominator: all images of the cell, n. Wilson interval. No reference table: 0 for honest gradients, since a random step gains about
    a share of 1/√(number of pixels) of what the gradient's does.
    """
    return np.asarray(records["value_random_gain"] > records["value_step_gain"], dtype=np.float64)


@metric(
    source="definition",
    unit="%",
    higher_is_better=False,
    needs=("value_probability",),
)
def probability_outputs(records: pd.DataFrame) -> np.ndarray:
    """Share of images whose outputs are probabilities where logits are expected: cross-entropy takes the softmax of a softmax.

    Denominator: all images of the cell, n. Wilson interval. No reference table.
    """
    return np.asarray(records["value_probability"], dtype=np.float64)
