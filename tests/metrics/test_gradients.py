import numpy as np
import pandas as pd

from robustvit.metrics.gradients import probability_outputs, random_step_wins, slope_disagreement

RECORDS = pd.DataFrame({
    "value_slope_error": [0.0, 0.5, 0.51, 2.0], "gradient": ["exact", "absent", "exact", "straight-through"],
    "value_step_gain": [1.0, 0.0, 0.0, 0.5], "value_random_gain": [0.5, 0.0, 0.1, 0.6], "value_probability": [0.0, 0.0, 0.0, 1.0],
})  # fmt: skip


def test_slopes_disagree_beyond_a_factor_of_two() -> None:
    assert slope_disagreement(RECORDS)[:3].tolist() == [0, 0, 1]


def test_a_surrogate_never_claimed_to_be_a_slope() -> None:
    assert np.isnan(slope_disagreement(RECORDS)[3])


def test_a_tie_is_no_win_of_the_random_step() -> None:
    assert random_step_wins(RECORDS).tolist() == [0, 0, 1, 1]


def test_outputs_that_are_probabilities_are_counted() -> None:
    assert probability_outputs(RECORDS).mean() == 1 / 4


def test_a_gradient_that_is_not_finite_is_no_slope() -> None:
    assert slope_disagreement(RECORDS.assign(gradient="not finite")).tolist() == [1, 1, 1, 1]
