"""Debiased calibration errors against the authors' estimators, written out bin by bin."""

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.confidence.calibration import ece, ece_adaptive, ece_classwise
from robustvit.metrics.confidence.calibration_debiased import ece_debiased, rms_calibration_debiased
from robustvit.metrics.confidence.ranked_confidence import aurc, aurra, risk_at_coverage
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resamples


def rows_of(n: int, seed: int = 0, bias: float = 0.0) -> pd.DataFrame:
    """Confidences that are `bias` too high."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.3, 0.95, n)
    right = rng.random(n) < true
    return pd.DataFrame({
        "sample": [f"s{i:05d}" for i in range(n)], "label": 0, "pred": (~right).astype(int), "confidence": (true + bias).astype(np.float32)
    })  # fmt: skip


def bins_of(rows: pd.DataFrame, place: np.ndarray) -> list[pd.DataFrame]:
    return [rows[place == i] for i in np.unique(place)]


def test_the_debiased_error_is_the_plug_in_less_its_bias_by_drawing() -> None:
    """The authors' normal_debiased_ce: accuracies drawn anew from normal variables about those observed."""
    rows, rng = rows_of(400, bias=0.05), np.random.default_rng(1)
    plug_in, drawn = 0.0, 0.0
    for part in bins_of(rows, np.floor(rows["confidence"] * 15)):
        accuracy, confidence = (part["pred"] == 0).mean(), part["confidence"].mean()
        plug_in += len(part) / 400 * abs(accuracy - confidence)
        again = rng.normal(accuracy, np.sqrt(accuracy * (1 - accuracy) / len(part)), 200_000)
        drawn += len(part) / 400 * np.abs(again - confidence).mean()
    found = ece_debiased(rows)
    assert found.value == pytest.approx(2 * plug_in - drawn, abs=2e-4)
    assert found.value < ece(rows).of(np.ones((1, 400)))[0]
    assert 0.0 <= found.low < found.value < found.high


def test_the_debiased_root_is_that_of_unbiased_squares() -> None:
    """The authors' unbiased_square_ce, over bins of equally many samples."""
    rows = rows_of(300, bias=0.1).sort_values("confidence", ignore_index=True)
    square = 0.0
    for part in bins_of(rows, np.arange(300) // 20):
        accuracy = (part["pred"] == 0).mean()
        square += 20 / 300 * ((accuracy - part["confidence"].mean()) ** 2 - accuracy * (1 - accuracy) / 19)
    assert rms_calibration_debiased(rows).value == pytest.approx(np.sqrt(square), abs=1e-6)


def test_squares_are_unbiased_where_the_plug_in_is_not() -> None:
    estimates = [rms_calibration_debiased(rows_of(300, seed)).value for seed in range(60)]
    plain = []
    for rows in (rows_of(300, seed).sort_values("confidence", ignore_index=True) for seed in range(60)):
        parts = bins_of(rows, np.arange(300) // 20)
        plain.append(np.sqrt(np.mean([(part["confidence"].mean() - (part["pred"] == 0).mean()) ** 2 for part in parts])))
    assert np.median(estimates) < 0.04 < 0.08 < np.median(plain)


def test_the_interval_of_a_calibrated_model_reaches_zero_and_that_of_ece_does_not() -> None:
    rows = rows_of(300)
    resamples = Resamples(rows["sample"].tolist())
    assert score(resolve_metric("ece_debiased"), rows, resamples).low == 0.0
    plain = score(resolve_metric("ece"), rows, resamples)
    assert 0.0 < plain.low < plain.value < plain.high


def test_too_few_samples_for_the_bins_are_refused() -> None:
    with pytest.raises(NotApplicable, match="two samples in each of 15 bins; here are 29"):
        rms_calibration_debiased(rows_of(29))


def test_adaptive_bins_hold_equally_many_samples() -> None:
    rows = rows_of(310).sort_values("confidence", ignore_index=True)
    even = rows.iloc[:300]
    expected = np.mean([abs((even["pred"][s : s + 20] == 0).mean() - even["confidence"][s : s + 20].mean()) for s in range(0, 300, 20)])
    assert ece_adaptive(even).of(np.ones((1, 300)))[0] == pytest.approx(expected, abs=1e-6)


def test_the_class_wise_error_is_that_of_one_class_after_another() -> None:
    rng = np.random.default_rng(2)
    logits, label = rng.normal(size=(400, 4)) * 2, rng.integers(0, 4, 400)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = 0.0
    for one in range(4):
        for i in range(10):
            inside = (p[:, one] > i / 10) & (p[:, one] <= (i + 1) / 10)
            expected += abs(((label == one) - p[:, one])[inside].sum()) / 400 / 4
    rows = pd.DataFrame({"label": label, "pred": logits.argmax(axis=1), "logits": list(logits)})
    assert ece_classwise(rows, MetricContext(), bins=10).of(np.ones((1, 400)))[0] == pytest.approx(expected, abs=1e-6)


def test_risk_at_coverage_is_the_error_of_the_samples_answered() -> None:
    rows = rows_of(250)
    best = rows.sort_values("confidence", ascending=False)
    for coverage in (0.1, 0.5, 1.0):
        found = risk_at_coverage(rows, coverage=coverage)
        assert found.of(np.ones((1, 250)))[0] == pytest.approx((best["pred"].iloc[: int(250 * coverage)] != 0).mean())
        assert found.counted == int(250 * coverage)
    areas = [risk_at_coverage(rows, coverage=k / 250).of(np.ones((1, 250)))[0] for k in range(1, 251)]
    assert aurc(rows).of(np.ones((1, 250)))[0] == pytest.approx(np.mean(areas))
    assert aurc(rows).of(np.ones((1, 250)))[0] == pytest.approx(1 - aurra(rows).of(np.ones((1, 250)))[0])
