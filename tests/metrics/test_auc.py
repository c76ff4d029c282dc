"""Areas under accuracy curves against scikit-learn's trapezoids and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import auc

from robustvit.errors import MissingCells, NotApplicable
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import IntervalEstimate, resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.resamples import Resampler

LEVELS = ("1", "2", "3", "4", "5")


def suite(errors: dict[tuple[str, str], float], n: int = 20) -> CellMeans:
    """Cells of n samples of which the first so many are misclassified."""
    resampler = Resampler()
    key = resampler([f"s{i:02d}" for i in range(n)]).key
    cells: dict[tuple[str, str], Values | None] = {c: Values(key, (np.arange(n) < round(e * n)) * 1.0) for c, e in errors.items()}
    return CellMeans("made-up", "imagenet", 1000, cells, resampler)


def asked(name: str, means: CellMeans, *which: str) -> IntervalEstimate:
    return score_means(resolve_metric(name), means, *which)


def test_the_area_over_uneven_severities_is_that_of_trapezoids() -> None:
    wrong = {("low_pass", "8"): 0.9, ("low_pass", "64"): 0.2, ("low_pass", "16"): 0.5}
    expected = 100 * auc([8, 16, 64], [0.1, 0.5, 0.8]) / 56
    found = asked("severity_auc", suite(wrong), "low_pass")
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_severities_may_be_fractions_but_not_words() -> None:
    assert asked("severity_auc", suite({("x", "1/255"): 0.5, ("x", "0.1"): 0.5}), "x").value == pytest.approx(50)
    with pytest.raises(NotApplicable, match="'high' of 'x' is no number"):
        asked("severity_auc", suite({("x", "high"): 0.5, ("x", "2"): 0.5}), "x")
    with pytest.raises(NotApplicable, match="two severities"):
        asked("severity_auc", suite({("x", "2"): 0.5}), "x")


def test_the_area_under_corruptions_begins_at_the_clean_images() -> None:
    wrong = {("clean", ""): 0.1} | {("fog", level): 0.2 for level in LEVELS} | {("snow", level): 0.1 * int(level) for level in LEVELS}
    curves = [[0.9, *[0.8] * 5], [0.9, 0.9, 0.8, 0.7, 0.6, 0.5]]
    assert asked("corruption_auc", suite(wrong)).value == pytest.approx(np.mean([20 * auc(range(6), curve) for curve in curves]))


def test_a_missing_cell_of_a_curve_is_named() -> None:
    means = suite({("clean", ""): 0.1} | {("fog", level): 0.2 for level in LEVELS})
    with pytest.raises(MissingCells, match="fog 3"):
        asked("corruption_auc", replace(means, cells={**means.cells, ("fog", "3"): None}))


def test_the_area_under_shifts_is_that_under_their_performance_profile() -> None:
    wrong = {("clean", ""): 0.2, ("imagenet-sketch", ""): 0.6, ("imagenet-a", ""): 0.9, ("val-of-imagenet-a", ""): 0.1, ("better", ""): 0.1}
    kept = np.array([0.4 / 0.8, 0.1 / 0.9, 1.0])
    grid = (np.arange(100_000) + 0.5) / 100_000
    profile = (kept[:, None] >= grid).mean(axis=0)
    assert asked("shift_auc", suite(wrong)).value == pytest.approx(100 * profile.mean(), abs=1e-3)


def test_shifts_need_a_set_and_something_to_keep() -> None:
    with pytest.raises(NotApplicable, match="no shifted data set"):
        asked("shift_auc", suite({("clean", ""): 0.2}))
    with pytest.raises(NotApplicable, match="nothing"):
        asked("shift_auc", suite({("clean", ""): 1.0, ("imagenet-sketch", ""): 0.5}))
