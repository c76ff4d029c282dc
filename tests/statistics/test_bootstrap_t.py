"""Intervals of many means at a time are those of one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from robustvit.statistics import bootstrap_t, resamples
from robustvit.statistics.bootstrap_t import MeanIntervals, drawn_sums, studentised, studentised_together
from robustvit.statistics.resamples import Resampler, Resamples


def columns(n: int = 150) -> np.ndarray:
    rng = np.random.default_rng(5)
    rare = np.zeros(n)
    rare[:2] = 1.0  # most replicates of so few miss what varies
    return np.stack([rng.normal(3, 2, n), rng.exponential(1, n), rng.integers(0, 2, n) * 0.5, rare, 7 + 1e-3 * rng.random(n)])


LIMITS = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 0.28), (0.0, 1.0), (7.0, 7.0005)]


def test_together_is_one_at_a_time() -> None:
    drawn = Resamples([f"s{i:03d}" for i in range(150)])
    found = studentised_together(columns(), drawn, LIMITS)
    for values, limits, interval in zip(columns(), LIMITS, found, strict=True):
        assert interval == pytest.approx(studentised(values, drawn_sums(values, drawn.weights), *limits), rel=1e-9)
    assert found[2].high == 0.28
    assert found[3] == pytest.approx((0.00366, 0.04731), abs=2e-4)  # Wilson's of 2 of 150


def test_sums_in_blocks_of_samples_are_those_of_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resamples, "_BLOCK", 64)
    drawn = Resamples([f"s{i:03d}" for i in range(150)])
    values, squares = drawn.sums(columns())
    exact = np.array([[sum(w * v for w, v in zip(row, one, strict=True)) for row in drawn.weights[:20].tolist()] for one in columns()])
    assert values[:, :20] == pytest.approx(exact, rel=1e-9)
    assert squares == pytest.approx(columns() ** 2 @ drawn.weights.T.astype(np.float64), rel=1e-9)


@pytest.mark.parametrize("most", [1, 3, 32])
def test_what_waits_is_computed_when_asked_for_or_when_enough_waits(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_t, "_MOST", most)
    resampler = Resampler()
    sets = [resampler([f"s{i:03d}" for i in range(150)]), resampler([f"t{i:03d}" for i in range(150)])]
    intervals = MeanIntervals()
    asked = [(one, values, intervals.request(values, one)) for values in columns()[[0, 1, 2, 4]] for one in sets]
    for one, values, interval in reversed(asked):
        assert interval() == pytest.approx(studentised(values, drawn_sums(values, one.weights)), rel=1e-9)


def test_what_waits_stays_within_its_range() -> None:
    drawn = Resampler()([f"s{i:03d}" for i in range(150)])
    intervals = MeanIntervals()
    asked = [intervals.request(values, drawn, *limits) for values, limits in zip(columns(), LIMITS, strict=True)]
    assert [interval() for interval in asked] == studentised_together(columns(), drawn, LIMITS)


def test_tables_in_another_order_share_what_is_drawn() -> None:
    resampler = Resampler()
    one, other = resampler(["a", "b", "c"]), resampler(["c", "a", "b"])
    assert one.weights is other.weights
    assert other.in_their_order.weights is one.weights
    assert other.order.tolist() == [1, 2, 0]
    assert other.in_their_order.order.tolist() == [0, 1, 2]
