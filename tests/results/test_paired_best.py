"""Which numbers are the best by a paired test, in tables and LaTeX."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_rel

from robustvit.metrics.corruption import alexnet
from robustvit.records.cells import stored_cells
from robustvit.records.store import Store
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.pages import pages
from robustvit.results.paired_best import PairedTests
from robustvit.results.paper_tables import paper_tables
from robustvit.results.ranks.sample_values import factors_of_cells
from robustvit.results.table_formats import pages_latex
from robustvit.statistics.estimates import resolve_metric

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def wrong(count: int, n: int = 30) -> list[bool]:
    return [i >= count for i in range(n)]


def clean_board(make_store: Make, answered: Columns, *errors: int, metrics: tuple[str, ...] = ("top1",)) -> Leaderboard:
    cells = {(f"m{place}", "clean", ""): answered(wrong(count)) for place, count in enumerate(errors)}
    return build_leaderboard(make_store(cells, metrics=metrics))


def numbers(board: Leaderboard, metric: str = "top1", scenario: str = "clean") -> list[pd.DataFrame]:
    rows = board.rows[(board.rows["metric"] == metric) & (board.rows["scenario"] == scenario)]
    return [rows.loc[[index]] for index in rows.index]


@pytest.mark.parametrize(
    ("errors", "best"),
    [((10, 0), 1), ((0, 6), 0), ((0, 5), None), ((0, 6, 6), None), ((0, 7, 7), 0), ((0, 1, 9), None), ((3, 3), None), ((4,), None)],
)
def test_the_best_differs_from_every_other_by_mcnemar_after_holm(
    make_store: Make, answered: Columns, errors: tuple[int, ...], best: int | None
) -> None:
    board = clean_board(make_store, answered, *errors)
    assert PairedTests(board).best(numbers(board)) == best


def test_a_single_cell_is_tested_by_mcnemar(make_store: Make, answered: Columns) -> None:
    board = clean_board(make_store, answered, 2, 9)
    assert PairedTests(board).p_value(*numbers(board)) == pytest.approx(binomtest(0, 7).pvalue)


def test_a_mean_over_cells_is_tested_by_the_differences_of_each_sample(make_store: Make, answered: Columns) -> None:
    draw = np.random.default_rng(0)
    right = {(model, name, level): draw.random(40) < share for model, share in (("a", 0.9), ("b", 0.5))
             for name, level in (("fog", "1"), ("fog", "2"), ("snow", "1"))}  # fmt: skip
    metrics = ("top1", "corruption_error", "mean_corruption_error")
    board = build_leaderboard(make_store({key: answered(one) for key, one in right.items()}, metrics=metrics))
    of = {model: ((right[model, "fog", "1"] * 0.5 + right[model, "fog", "2"] * 0.5), right[model, "snow", "1"] * 1.0) for model in "ab"}
    tests = PairedTests(board)
    expected = ttest_rel((of["a"][0] + of["a"][1]) / 2, (of["b"][0] + of["b"][1]) / 2).pvalue
    assert tests.p_value(*numbers(board, "mean_corruption_error", "")) == pytest.approx(expected)
    assert tests.p_value(*numbers(board, "corruption_error", "fog")) == pytest.approx(ttest_rel(of["a"][0], of["b"][0]).pvalue)
    assert tests.best(numbers(board, "mean_corruption_error", "")) == 0


def test_what_is_not_attacked_counts_as_misclassified(make_store: Make, answered: Columns) -> None:
    attacked = [[False] * 20 + [True] * 10, [True] * 30]
    cells = {(f"m{place}", "pgd", "1/255"): answered([True] * 30, attacked=one) for place, one in enumerate(attacked)}
    board = build_leaderboard(make_store(cells, metrics=("robust_accuracy",)))
    assert PairedTests(board).p_value(*numbers(board, "robust_accuracy", "pgd")) == pytest.approx(binomtest(0, 20).pvalue)


@pytest.mark.parametrize("change", [{"status": "partial"}, {"reason": "at chance"}, {"gradients": "suspect: why"}, {"value": np.nan}])
def test_unsound_numbers_are_neither_best_nor_rivals(make_store: Make, answered: Columns, change: dict[str, Any]) -> None:
    board = clean_board(make_store, answered, 0, 1, 12)
    found = numbers(board)
    tests = PairedTests(board)
    assert tests.best(found) is None
    assert tests.best([found[0], found[1].assign(**change), found[2]]) == 0
    assert tests.best([found[0].assign(**change), found[1], found[2]]) == 1


def test_other_metrics_other_data_and_boards_without_a_store_have_no_test(make_store: Make, answered: Columns) -> None:
    board = clean_board(make_store, answered, 0, 12, metrics=("top1", "brier"))
    first, second = numbers(board)
    assert PairedTests(board).best([first, second]) == 0
    assert PairedTests(board).best(numbers(board, "brier")) is None
    assert PairedTests(board).best([first, second.assign(contents="other")]) is None
    assert PairedTests(replace(board, store=None)).best([first, second]) is None


def test_latex_is_bold_only_where_the_test_allows(make_store: Make, answered: Columns) -> None:
    cells = {}
    for model, clean, fog in (("a", 0, 5), ("b", 2, 20)):
        cells |= {(model, "clean", ""): answered(wrong(clean)), (model, "fog", "1"): answered(wrong(fog))}
    board = build_leaderboard(make_store(cells, metrics=("top1", "corruption_error")))
    tests = PairedTests(board)
    text = pages_latex(paper_tables(board.rows, "severity", tests=tests).pages)
    assert text.count(r"\textbf{") == 1
    assert r"\textbf{83.3" in text
    assert "Bold: the best" in text.splitlines()[2]
    assert r"\textbf" not in pages_latex(paper_tables(board.rows, "data", tests=tests).pages)
    found = pages(board.rows, tests)
    assert [sorted(page.best) for page in found] == [[(0, "fog error")], [(0, "a")]]
    assert r"\textbf{16.7" in pages_latex(found)


def test_headlines_of_imagenet_c_are_tested_with_the_factors_of_their_cells(make_store: Make, answered: Columns) -> None:
    draw = np.random.default_rng(1)
    names = list(alexnet()["ce_mean"])
    keys = [("clean", ""), *((name, level) for name in names for level in "12345"), ("spatter", "1")]
    right = {(model, *key): draw.random(12) < share for model, share in (("a", 0.8), ("b", 0.6)) for key in keys}
    metrics = ("top1", "mean_err_15", "mce_alexnet", "relative_mce_alexnet")
    store = make_store({key: answered(one) for key, one in right.items()}, metrics=metrics, data="imagenet", classes=1000)
    board = build_leaderboard(store)
    ce, clean = np.array(list(alexnet()["ce_mean"].values())), alexnet()["clean"]
    errors = {model: np.array([np.mean([~right[model, name, level] for level in "12345"], axis=0) for name in names]) for model in "ab"}
    rise = {model: errors[model] - ~right[model, "clean", ""] for model in "ab"}
    expected = {
        "mean_err_15": [errors[model].mean(axis=0) for model in "ab"],
        "mce_alexnet": [(errors[model] / ce[:, None]).mean(axis=0) for model in "ab"],
        "relative_mce_alexnet": [(rise[model] / (ce - clean)[:, None]).mean(axis=0) for model in "ab"],
    }
    tests = PairedTests(board)
    for metric, (a, b) in expected.items():
        assert tests.p_value(*numbers(board, metric, "")) == pytest.approx(ttest_rel(a, b).pvalue), metric
    assert tests.best(numbers(board, "mean_err_15", "")) == 0


def test_a_metric_that_is_no_sum_of_errors_has_no_factors(make_store: Make, answered: Columns) -> None:
    cells = stored_cells(make_store({("m", "fog", level): answered(wrong(3)) for level in "12"}, metrics=("top1",)))
    entry = resolve_metric("mean_corruption_error")
    assert factors_of_cells(entry, cells).tolist() == [0.5, 0.5]
    assert factors_of_cells(replace(entry, compute=lambda errors: errors.of("fog") ** 2), cells).size == 0
    assert factors_of_cells(replace(entry, compute=lambda errors: errors.of("snow")), cells).size == 0
    assert factors_of_cells(replace(entry, compute=lambda errors: 1 / errors.of("fog")), cells).size == 0


def test_marks_of_the_size_of_images_do_not_keep_models_from_being_ranked(make_store: Make, answered: Columns) -> None:
    board = clean_board(make_store, answered, 0, 1, 12)
    tests, found = PairedTests(board), numbers(board)
    small = {"reason": "half of an image or more lies outside at 32 px, since lengths are those of 224 px: zoom 1"}
    marked = [one.assign(**small) for one in found]
    assert [one.rank for one in tests.ranks(marked)] == [one.rank for one in tests.ranks(found)] == [1, 1, 3]
    assert [one.rank for one in tests.ranks([*marked[:2], found[2]])] == [1, 1, 0]  # of other sizes
    doubted = found[0].assign(reason=small["reason"] + "; at chance")
    assert tests.ranks([doubted, *marked[1:]])[0].reason == "marked"
