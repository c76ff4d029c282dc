"""Who is on the Pareto front, and whether noise could decide otherwise: against tests that are computed here."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robustvit.records.store import Store
from robustvit.report.pareto_plot import pareto_plot
from robustvit.report.scatter import svg
from robustvit.results.factors.pareto_front import ScoreTests, standings
from robustvit.results.factors.tables import factor_table
from robustvit.results.factors.view import FactorView, factor_view
from robustvit.results.leaderboard import build_leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def view_of(costs: list[float], scores: list[float], halves: list[float], higher: bool = True) -> FactorView:
    names = [f"m{at}" for at in range(len(costs))]
    score, half = np.array(scores), np.array(halves)
    frame = pd.DataFrame({"model": names, "macs": costs, "s": score, "s_low": score - half, "s_high": score + half})
    return FactorView(frame, {"s": higher})


@pytest.mark.parametrize("seed", range(30))
def test_standings_are_those_of_brute_force(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, higher = int(draw.integers(2, 9)), bool(draw.integers(2))
    costs, scores = draw.integers(1, 5, count).astype(float).tolist(), draw.integers(40, 60, count).astype(float).tolist()
    halves = draw.uniform(0.5, 8, count).tolist()
    found = standings(view_of(costs, scores, halves, higher), "macs", "s")
    sign = 1 if higher else -1
    rivals, p_values = {}, {}
    for own in range(count):
        others = [other for other in range(count) if other != own and costs[other] <= costs[own]]
        dominated = any(
            sign * scores[o] >= sign * scores[own] and (costs[o] < costs[own] or sign * scores[o] > sign * scores[own])
            for o in range(count)
            if costs[o] <= costs[own]
        )
        assert found[own].front is not dominated
        if others:
            rivals[own] = max(others, key=lambda o: sign * scores[o])
            error = np.hypot(halves[own], halves[rivals[own]]) / NormalDist().inv_cdf(0.975)
            p_values[own] = 2 * NormalDist().cdf(-abs(scores[own] - scores[rivals[own]]) / error)
    shown: dict[int, bool] = dict.fromkeys(rivals, False)
    for place, own in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        if p_values[own] >= 0.05 / (len(p_values) - place):
            break
        shown[own] = True
    for own in range(count):
        assert found[own].shown is (shown[own] if own in rivals else None)
        assert found[own].rival == (f"m{rivals[own]}" if own in rivals else "")


@pytest.mark.parametrize(
    ("scores", "halves", "texts", "marks"),
    [
        ([60, 70, 50], [1, 1, 1], ["on the front", "on the front", "dominated by m1"], ["*", "*", ""]),
        ([60, 61, 59], [5, 5, 5], ["on the front", "on the front; within noise of m0", "dominated by m1 within noise"], ["*", "* ?", "?"]),
    ],
)
def test_words_and_marks(scores: list[float], halves: list[float], texts: list[str], marks: list[str]) -> None:
    found = standings(view_of([1, 2, 3], scores, halves), "macs", "s")
    assert [one.text for one in found.values()] == texts
    assert [one.mark for one in found.values()] == marks


def test_without_intervals_nothing_is_said_of_noise() -> None:
    view = view_of([1, 2], [60, 59], [np.nan, np.nan])
    assert [one.mark for one in standings(view, "macs", "s").values()] == ["*", ""]


def test_a_store_gives_tests_that_are_paired_by_image(make_store: Make, answered: Columns) -> None:
    """Intervals of 40 images overlap, but the second model has 8 more right, and none fewer: McNemar's p is 0.008."""
    right = {"a": [i < 20 for i in range(40)], "b": [i < 28 for i in range(40)]}
    cells = {(model, "pgd", "1/255"): answered(one, attacked=[True] * 40) for model, one in right.items()}
    board = build_leaderboard(make_store(cells, metrics=("robust_accuracy",)))
    view = factor_view(board)
    assert ScoreTests(board).test(view, "pgd 1/255", 0, 1).p == pytest.approx(binomtest(0, 8).pvalue)
    assert ScoreTests().test(view, "pgd 1/255", 0, 1).p > 0.05
    paired = standings(view, "parameters", "pgd 1/255", ScoreTests(board))
    assert [one.text for one in paired.values()] == ["dominated by b", "on the front"]
    table = factor_table(view, None, "pgd 1/255", "parameters", tests=ScoreTests(board))
    assert table.page["front"].tolist() == ["", "*"]
    assert table.table["front"].tolist() == ["dominated by b", "on the front"]


def test_the_plot_is_hollow_where_noise_could_decide_otherwise() -> None:
    view = view_of([1, 2, 3], [60, 61, 59], [5, 5, 5])
    view = FactorView(view.rows.assign(pretraining="p"), view.scores)
    plot = pareto_plot(view, "s", "macs")
    assert sorted((one.name, one.noise) for one in plot.points) == [("m0", False), ("m1", True), ("m2", True)]
    text = svg(plot, standalone=True)
    assert text.count("noise") >= 3
    assert "hollow: within noise" in text
    assert "dominated by m1 within noise" in text


def test_of_two_intervals_the_ends_that_face_each_other_count() -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "macs": [1.0, 2.0], "s": [60.0, 50.0], "s_low": [52.0, 49.0], "s_high": [61.0, 57.0]})
    error = np.hypot(8, 7) / NormalDist().inv_cdf(0.975)
    for first, second, sign in ((0, 1, 1), (1, 0, -1)):
        found = ScoreTests().test(FactorView(frame, {"s": True}), "s", first, second)
        assert (found.difference, found.p) == (sign * 10.0, pytest.approx(2 * NormalDist().cdf(-10 / error)))
