"""Curves over orders of blocks, removed blocks, channels and heads."""

from __future__ import annotations

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.report.curves.lesion_curves import lesion_panels
from robustvit.report.page import render
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.report.text import conclusion
from robustvit.results.leaderboard import build_leaderboard, leaderboard

VALUES = {  # (scenario, params): metric and value
    ("block_orders", "count=25"): {
        "order_accuracy": 35.0, "order_accuracy(order=reversed)": 18.0, "order_accuracy(distance=0.5)": 24.0,
        "order_accuracy(distance=0)": 97.0, "order_accuracy(distance=1)": 18.0,
    },
    ("removed_blocks", "shuffled=False"): {"removed_blocks_accuracy": 70.0, "removed_blocks_accuracy(count=10)": 20.0,
                                           "removed_blocks_accuracy(count=2)": 42.0},
    ("removed_blocks", "shuffled=True"): {"removed_blocks_accuracy": 31.0},
}  # fmt: skip


@pytest.fixture
def lesioned(store: Store) -> SuiteResults:
    """Two models with analyses of their parts."""
    board, rows = leaderboard(store), []
    for model in ("demo", "rival"):
        pattern = board[(board["model"] == model) & (board["scenario"] == "clean")].iloc[0].to_dict()
        for (scenario, params), metrics in VALUES.items():
            for name, value in metrics.items():
                place = {"scenario": scenario, "params": params, "severity": "", "cell": f"{model}{scenario}{params}", "metric": name}
                rows.append({**pattern, **place, "value": value, "low": value, "high": value})
    (found,) = results_by_suite(pd.concat([board, pd.DataFrame(rows)], ignore_index=True).astype(board.dtypes))
    return found


def test_a_curve_is_over_the_levels_of_its_metric_and_a_default_is_a_level(lesioned: SuiteResults) -> None:
    panels = lesion_panels(lesioned, None)
    assert [(panel.title, panel.axis) for panel in panels] == [
        ("block orders", "Kendall distance"), ("removed blocks (shuffled=False)", "how many"),
    ]  # fmt: skip
    assert [tick.text for tick in panels[0].columns] == ["0", "0.5", "1"]
    assert [tick.text for tick in panels[1].columns] == ["1", "2", "10"]
    tips = [hit.tip.splitlines()[1].partition(" [")[0] for hit in panels[1].hovers]
    assert tips == ["demo: 70.0\u00a0%", "demo: 42.0\u00a0%", "demo: 20.0\u00a0%"]


def test_an_undefined_level_is_no_point_of_a_curve(lesioned: SuiteResults) -> None:
    for model in lesioned.models:
        model.rows.loc[model.rows["metric"] == "order_accuracy(distance=0.5)", ["value", "status"]] = [float("nan"), "undefined"]
    assert [tick.text for tick in lesion_panels(lesioned, None)[0].columns] == ["0", "1"]


def test_a_page_without_such_analyses_has_no_such_section(store: Store) -> None:
    assert "Parts removed or exchanged" not in render(build_leaderboard(store), store)


def test_the_first_sentence_states_twelve_measurements_and_counts_the_rest(store: Store) -> None:
    board = leaderboard(store)
    pattern = board[(board["model"] == "demo") & (board["scenario"] == "clean")].iloc[0].to_dict()
    place = {"scenario": "block_orders", "params": "count=25", "severity": "", "cell": "orders"}
    rows = [{**pattern, **place, "metric": f"order_accuracy(distance={level})"} for level in range(15)]
    (found,) = results_by_suite(pd.concat([board, pd.DataFrame(rows)], ignore_index=True).astype(board.dtypes))
    text = conclusion(found, next(model for model in found.models if model.label == "demo")).sentence
    assert text.count("order accuracy (distance=") == 12
    assert "and 3 measurements more" in text
