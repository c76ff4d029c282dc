"""Headline numbers of two stores: differences recomputed from the rows with numpy, intervals against closed forms and simulation."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robustvit.records.store import Store
from robustvit.results.comparison import diff
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.paired_cells import side_by_side
from robustvit.results.two_stores.paired_headlines import NumberPair, paired_headlines
from robustvit.results.two_stores.paired_values import mean_difference
from robustvit.statistics.resamples import Resamples

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
METRICS = ("top1", "nll", "ece", "mean_corruption_error")


def right(seed: int, n: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def flipped(correct: np.ndarray, seed: int, share: float) -> np.ndarray:
    return np.where(np.random.default_rng([seed, 9]).random(len(correct)) < share, ~correct, correct)


@pytest.fixture
def cells(answered: Columns) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The cells of two runs on 300 images: clean, fog at three severities and snow at one."""
    keys = [("a", "clean", ""), *(("a", "fog", s) for s in "135"), ("a", "snow", "5")]
    first = {key: right(place, 300, 0.8 - 0.1 * place) for place, key in enumerate(keys)}
    second = {key: flipped(one, place, 0.1) for place, (key, one) in enumerate(first.items())}
    return tuple({key: answered(one) for key, one in side.items()} for side in (first, second))  # type: ignore[return-value]


def numbers(a: Store, b: Store, **chosen: Any) -> dict[str, NumberPair]:
    (group,) = paired_headlines(build_leaderboard(a, **chosen), build_leaderboard(b, **chosen))
    return {one.title: one for one in group.numbers}


@pytest.fixture
def found(make_store: Make, cells: Any) -> dict[str, NumberPair]:
    return numbers(make_store(cells[0], metrics=METRICS), make_store(cells[1], metrics=METRICS, name="b", salt="v2"))


def correct(columns: dict[str, Any]) -> np.ndarray:
    return np.asarray(columns["pred"] == columns["label"], dtype=float)


def test_the_difference_of_a_count_has_bonett_and_prices_interval(found: Any, cells: Any) -> None:
    a, b = (correct(side["a", "clean", ""]) for side in cells)
    only_a, only_b, n = ((a > b).sum() + 1) / (300 + 2), ((b > a).sum() + 1) / (300 + 2), 300
    half = stats.norm.ppf(0.975) * math.sqrt((only_a + only_b - (only_a - only_b) ** 2) / (n + 2))
    difference = found["clean top-1"].difference
    assert difference.value == pytest.approx(100 * (b.mean() - a.mean()))
    assert [difference.low, difference.high] == pytest.approx([100 * (only_b - only_a - half), 100 * (only_b - only_a + half)])
    assert difference.n == n


def test_the_difference_of_a_mean_over_samples_is_that_of_its_values(found: Any, cells: Any) -> None:
    change = np.subtract(*(np.asarray(side["a", "clean", ""]["nll"], dtype=float) for side in cells[::-1]))
    difference = found["clean nll"].difference
    half = stats.t.ppf(0.975, 299) * change.std(ddof=1) / math.sqrt(300)
    assert difference.value == pytest.approx(change.mean(), rel=1e-6)
    assert (difference.high - difference.low) / (2 * half) == pytest.approx(1, abs=0.15)


def test_an_average_over_cells_weighs_corruptions_equally_whatever_their_severities(found: Any, cells: Any) -> None:
    errors = [{key: 1 - correct(columns) for key, columns in side.items()} for side in cells]
    fog = [np.mean([side["a", "fog", s] for s in "135"], axis=0) for side in errors]
    change = np.mean([fog[1] - fog[0], errors[1]["a", "snow", "5"] - errors[0]["a", "snow", "5"]], axis=0)
    difference = found["mean_corruption_error"].difference
    half = stats.t.ppf(0.975, 299) * change.std(ddof=1) / math.sqrt(300)
    assert difference.value == pytest.approx(100 * change.mean())
    assert (difference.high - difference.low) / (200 * half) == pytest.approx(1, abs=0.15)
    assert found["mean_corruption_error"].shared == 0


def test_the_difference_of_a_calibration_error_is_resampled_on_the_same_images(found: Any, cells: Any) -> None:
    def ece(columns: dict[str, Any]) -> float:
        bins = np.ceil(np.asarray(columns["confidence"], dtype=np.float64) * 15)
        table = pd.DataFrame({"bin": bins, "gap": correct(columns) - np.asarray(columns["confidence"], dtype=np.float64)})
        return float(table.groupby("bin")["gap"].sum().abs().sum() / len(table))

    difference = found["clean ece"].difference
    assert difference.value == pytest.approx(100 * (ece(cells[1]["a", "clean", ""]) - ece(cells[0]["a", "clean", ""])), abs=1e-6)
    apart = found["clean ece"].a.facts, found["clean ece"].b.facts
    assert difference.low < difference.value < difference.high
    assert difference.high - difference.low < sum(one["high"] - one["low"] for one in apart), "narrower than of two sets of images"


def test_only_the_images_of_both_sides_count(make_store: Make, cells: Any) -> None:
    few = {key: {name: column[200:] for name, column in columns.items()} for key, columns in cells[1].items()}
    difference = numbers(make_store(cells[0], metrics=METRICS), make_store(few, name="b", metrics=METRICS))["clean top-1"].difference
    a, b = (correct(side["a", "clean", ""])[200:] for side in cells)
    assert (difference.value, difference.n) == (pytest.approx(100 * (b.mean() - a.mean())), 100)


def test_an_average_over_other_cells_is_compared_over_those_of_both(make_store: Make, cells: Any, answered: Columns) -> None:
    more = cells[0] | {("a", "frost", "5"): answered(right(7, 300, 0.1))}
    pair = numbers(make_store(more, metrics=METRICS), make_store(cells[1], name="b", metrics=METRICS))["mean_corruption_error"]
    plain = numbers(make_store(cells[0], name="c", metrics=METRICS), make_store(cells[1], name="d", metrics=METRICS))
    assert pair.difference == plain["mean_corruption_error"].difference
    assert pair.shared == 4
    assert pair.a.facts["value"] != plain["mean_corruption_error"].a.facts["value"]


def test_a_number_of_one_side_has_no_difference(make_store: Make, cells: Any) -> None:
    less = {key: columns for key, columns in cells[1].items() if key[1] != "clean"}
    pair = numbers(make_store(cells[0], metrics=METRICS), make_store(less, name="b", metrics=METRICS))["clean top-1"]
    assert (pair.b, pair.difference) == (None, None)


def test_the_same_rows_do_not_differ(make_store: Make, cells: Any) -> None:
    found = numbers(make_store(cells[0], metrics=METRICS), make_store(cells[0], name="b", metrics=METRICS))
    assert all(one.difference.value == 0 and one.difference.equal for one in found.values())
    n = 300
    half = 100 * stats.norm.ppf(0.975) * math.sqrt(2 / (n + 2) / (n + 2))
    for title in ("clean top-1", "mean_corruption_error"):
        assert [found[title].difference.low, found[title].difference.high] == pytest.approx([-half, half])


def test_a_chain_of_attacks_is_not_compared_at_different_steps(make_store: Make, answered: Columns) -> None:
    done = {("a", f"chain {link}/3", "4/255"): answered([True] * 20, attacked=[True] * 20) for link in (1, 2, 3)}
    begun = {key: columns for key, columns in done.items() if key[1] != "chain 3/3"}
    begun |= {("a", "chain 3/3", "4/255"): None}
    sides = make_store(done, metrics=["robust_accuracy"]), make_store(begun, name="b", metrics=["robust_accuracy"], asked=20)
    assert [one.difference for one in numbers(*sides).values()] == [None]


def test_transforms_and_suites_are_groups_of_their_own(make_store: Make, answered: Columns) -> None:
    cells = {(side, "clean", ""): answered([True, False]) for side in ("a", "a → soft(t=1)", "b")}
    boards = [build_leaderboard(make_store(cells, name=name)) for name in "xy"]
    assert [(one.about["model"], one.about["transforms"]) for one in paired_headlines(*boards)] == [
        ("a", ""),
        ("a", "soft(t=1)"),
        ("b", ""),
    ]


def test_intervals_of_means_over_cells_cover_the_difference() -> None:
    generator = np.random.default_rng(0)
    weights = Resamples([f"{i:03d}" for i in range(120)]).weights
    held = 0
    for _ in range(400):
        hard = generator.random(120)
        a, b = ((hard[:, None] < 0.5 + shift) ^ (generator.random((120, 5)) < 0.15) for shift in (0.0, 0.05))
        found = mean_difference((b.astype(float) - a).mean(axis=1), 1.0, weights)
        held += found.low <= 0.05 * 0.7 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_where_nothing_differs_the_interval_is_of_counts_times_the_weights() -> None:
    n, weights = 50, Resamples([str(i) for i in range(50)]).weights
    half = stats.norm.ppf(0.975) * math.sqrt(2 / (n + 2) / (n + 2))
    found = [mean_difference(np.zeros(n), limit, weights) for limit in (1.0, 1.4)]
    assert [(one.low, one.high) for one in found] == [pytest.approx((-half * limit, half * limit)) for limit in (1.0, 1.4)]
    assert mean_difference(np.zeros(n), math.inf, weights)[:3] == (0.0, 0.0, 0.0), "of measurements nothing is known"


def reseeded(store: Store, **settings: Any) -> Store:
    """The store as if its one run had had another seed, precision or storage."""
    (manifest,) = store.manifests()
    cells = [replace(cell, **settings) for cell in manifest.cells]
    store.write_manifest(replace(manifest, cells=cells))
    return store


def test_cells_are_matched_across_a_seed_and_a_precision(make_store: Make, cells: Any) -> None:
    a = make_store(cells[0], metrics=METRICS)
    b = reseeded(make_store(cells[1], name="b", metrics=METRICS), seed=3, precision="bfloat16")
    table = diff(a, b)
    assert set(table["across"]) == {"seed 0 and 3, precision float32 and bfloat16"}
    assert table["n"].eq(300).all()
    assert numbers(a, b)["clean top-1"].difference.n == 300


def test_several_seeds_are_matched_by_equality_alone() -> None:
    def without(key: tuple[str, int]) -> str:
        return key[0]

    assert side_by_side([("x", 0)], [("x", 1)], without) == [(("x", 0), ("x", 1))]
    assert side_by_side([("x", 0), ("x", 1)], [("x", 1), ("x", 2)], without) == [(("x", 0), ("x", 2)), (("x", 1), ("x", 1))]
    assert side_by_side([("x", 0), ("x", 1)], [("x", 2)], without) == [(("x", 0), None), (("x", 1), None), (None, ("x", 2))]
    assert side_by_side([("x", 0)], [("y", 0)], without) == [(("x", 0), None), (None, ("y", 0))]
