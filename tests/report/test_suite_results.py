"""Leaderboard rows grouped by suite and model."""

from robustvit.records.store import Store
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import leaderboard


def test_the_models_of_a_suite_have_different_colours(suite: SuiteResults) -> None:
    assert [(model.name, model.slot) for model in suite.models] == [("demo", 0), ("rival", 1)]


def test_models_of_the_same_label_are_distinguished_by_what_differs(store: Store) -> None:
    board = leaderboard(store)
    board.loc[board["model"] == "rival", ["model", "seed"]] = ["demo", 7]
    (suite,) = results_by_suite(board)
    assert [model.name for model in suite.models] == ["demo · seed 0", "demo · seed 7"]


def test_a_model_keeps_its_colour_in_every_suite(store: Store) -> None:
    board = leaderboard(store)
    board.loc[(board["model"] == "rival"), "suite"] = "another"
    assert [suite.models[0].slot for suite in results_by_suite(board)] == [0, 1]
