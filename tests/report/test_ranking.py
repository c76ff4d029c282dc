"""The leaderboard table of the report."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from robustvit.records.store import Store
from robustvit.report.columns import Column
from robustvit.report.ranking import Ranking, mean_error, ranking
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import build_leaderboard, leaderboard
from robustvit.results.paired_best import PairedTests


def test_columns_undefined_for_every_model_are_left_out(suite: SuiteResults) -> None:
    assert [column.title for column in ranking([suite]).columns] == ["clean top-1 accuracy", "mean corruption error", "pgd 1/255"]


def test_the_best_number_of_a_suite_is_marked_where_a_paired_test_shows_a_difference(store: Store, suite: SuiteResults) -> None:
    found = ranking([suite], PairedTests(build_leaderboard(store)))  # 19 and 15 of 20 clean images; errors of 15 cells of 60 differ
    assert [[entry.best for entry in row.entries[:2]] for row in found.rows] == [[False, True], [False, False]]
    assert found.marked
    assert not ranking([suite]).marked


@pytest.mark.parametrize("status", ["n/a", "undefined"])
def test_an_undefined_number_shows_its_status(suite: SuiteResults, status: str) -> None:
    rows = suite.models[0].rows.copy()
    rows.loc[rows["scenario"] == "pgd", ["value", "status"]] = [math.nan, status]
    models = (replace(suite.models[0], rows=rows), suite.models[1])
    entry = ranking([replace(suite, models=models)]).rows[0].entries[2]
    assert (entry.text, entry.kind, entry.bar) == (status, "undefined", None)


def of_data_sets(make_store: Callable[..., Store], answered: Callable[..., Any], *metrics: str) -> Ranking:
    cells = {
        (model, name, ""): answered([True] * right + [False] * 9)
        for model, right in (("demo", 9), ("rival", 1))
        for name in ("colour", "edge")
    }
    board = build_leaderboard(make_store(cells, metrics=metrics))
    return ranking(results_by_suite(board.rows), PairedTests(board))


def test_every_data_set_has_a_column_of_its_own(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    found = of_data_sets(make_store, answered, "nll", "top1")
    assert [(column.title, row.text) for column, row in zip(found.columns, found.rows[0].entries, strict=True)] == [
        ("colour top-1 accuracy", "50.0"),
        ("edge top-1 accuracy", "50.0"),
    ]


def test_data_sets_without_top1_show_the_first_metric(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    found = of_data_sets(make_store, answered, "top5", "nll")
    assert [column.title for column in found.columns] == ["colour top-5 accuracy", "edge top-5 accuracy"]


def test_a_metric_of_a_single_cell_is_named_without_its_scenario(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "edge", ""): answered([True, False])}, metrics=("top1", "brier"))
    assert [column.title for column in ranking(results_by_suite(leaderboard(store))).columns] == ["Brier score", "edge top-1 accuracy"]


def measured(
    make_store: Callable[..., Store], answered: Callable[..., Any], probabilities: dict[tuple[str, str, str], float]
) -> SuiteResults:
    """A suite with an analysis in some cells, whose measurement is the same for each of ten samples."""
    ids = answered([True] * 10)["sample"]
    cells = {key: {"sample": ids, "label": [0] * 10, "value_probability": [value] * 10} for key, value in probabilities.items()}
    (found,) = results_by_suite(leaderboard(make_store(cells, metrics=("probability_outputs",))))
    return found


def test_a_measurement_has_a_column_for_every_cell(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    found = ranking([measured(make_store, answered, {("demo", "loss_surface", "1"): 0.0, ("demo", "loss_surface", "4"): 1.0})])
    titles = [column.title for column in found.columns]
    assert titles == ["loss surface 1 probability outputs", "loss surface 4 probability outputs"]
    assert [entry.text for entry in found.rows[0].entries] == ["0.0", "100.0"]


def test_a_measurement_of_different_cells_of_two_models_never_shares_a_column(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    found = ranking([measured(make_store, answered, {("demo", "loss_surface", "1"): 0.0, ("rival", "loss_surface", "4"): 1.0})])
    assert [[entry.text for entry in row.entries] for row in found.rows] == [["0.0", ""], ["", "100.0"]]


def test_a_measurement_of_one_cell_is_named_without_it(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    found = ranking([measured(make_store, answered, {("demo", "loss_surface", "1"): 0.0, ("rival", "loss_surface", "1"): 1.0})])
    assert [column.title for column in found.columns] == ["probability outputs"]


def test_no_best_is_marked_where_lower_is_better_unless_it_is_an_error(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    found = of_data_sets(make_store, answered, "nll")
    assert [entry.best for row in found.rows for entry in row.entries] == [False] * 4
    assert not found.marked
    assert Column("mce_alexnet", "", "%", False).marked


def test_no_best_is_marked_for_metrics_that_do_not_use_labels(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {
        (model, name, ""): answered([True] * n) for model, n in (("demo", 9), ("rival", 4)) for name in ("imagenet-o", "val-of-imagenet-o")
    }
    found = ranking(results_by_suite(leaderboard(make_store(cells, metrics=("confidence",)))))
    assert [column.title for column in found.columns] == ["imagenet-o confidence", "val-of-imagenet-o confidence"]
    assert not found.marked


def test_a_mean_without_a_metric_of_its_own_has_an_interval_too(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {("demo", name, "1"): answered([i >= wrong for i in range(50)]) for name, wrong in (("fog", 10), ("snow", 20))}
    (model,) = results_by_suite(leaderboard(make_store(cells, metrics=("top1", "corruption_error"))))[0].models
    point, rows = mean_error(model), model.rows[model.rows["metric"] == "corruption_error"]
    assert point is not None
    assert (point.value, point.low, point.high) == pytest.approx(tuple(rows[["value", "low", "high"]].mean()))
    assert point.low < 30.0 < point.high


def test_a_mean_without_one_of_its_corruptions_is_partial_and_no_number(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    cells = {("demo", "fog", "1"): answered([True, False]), ("demo", "snow", "1"): None}
    (model,) = results_by_suite(leaderboard(make_store(cells, metrics=("top1", "corruption_error"))))[0].models
    point = mean_error(model)
    assert point is not None
    assert (point.known, point.status) == (False, "partial")


def test_robust_accuracy_has_the_gradient_masking_verdict_and_a_suspect_is_never_best(masked: list[SuiteResults]) -> None:
    found = ranking(masked)
    shown = {(row.model.label, column.key): entry for row in found.rows for column, entry in zip(found.columns, row.entries, strict=True)}
    assert {key[0]: entry.gradients for key, entry in shown.items()} == {"honest": "unchecked", "masked": "suspect"}
    assert not any(entry.best for entry in shown.values())
    assert "gradients suspect: one step beats iterative" in shown["masked", "pgd 4/255"].note
