"""Curves of certified accuracy, and the sentence about them."""

from dataclasses import replace

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.report.curves.certified_curves import certified_panels, certified_results
from robustvit.report.ranking import ranking
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.report.text import conclusion
from robustvit.results.leaderboard import leaderboard

CERTIFIED = {  # (scenario, params): metric and value
    ("columns", "width=4"): {"top1": 90.0, "certified_accuracy(patch=5)": 40.0, "certified_accuracy(patch=2)": 60.0},
    ("both", "width=4"): {"top1": 80.0, "certified_accuracy(patch=5)": 0.0, "certified_accuracy(patch=2)": 0.0},
}


@pytest.fixture
def certified(store: Store) -> SuiteResults:
    """Two models with certificates."""
    board = leaderboard(store)
    rows = []
    for model in ("demo", "rival"):
        pattern = board[(board["model"] == model) & (board["scenario"] == "clean")].iloc[0].to_dict()
        for (scenario, params), metrics in CERTIFIED.items():
            for name, value in metrics.items():
                place = {"scenario": scenario, "params": params, "severity": "", "cell": f"{model}{scenario}", "metric": name}
                rows.append({**pattern, **place, "value": value, "low": value, "high": value})
    (found,) = results_by_suite(pd.concat([board, pd.DataFrame(rows)], ignore_index=True).astype(board.dtypes))
    return found


def test_a_curve_begins_at_the_smoothed_models_own_accuracy(certified: SuiteResults) -> None:
    panels = certified_panels(certified)
    assert [(panel.title, panel.axis) for panel in panels] == [("columns", "side of a patch, px"), ("both", "side of a patch, px")]
    assert [tick.text for tick in panels[0].columns] == ["0", "2", "5"]
    assert [hit.tip.splitlines()[1].partition(" [")[0] for hit in panels[0].hovers] == [
        "demo: 90.0\u00a0%",
        "demo: 60.0\u00a0%",
        "demo: 40.0\u00a0%",
    ]


def test_the_sentence_has_the_largest_patch_with_certified_images(certified: SuiteResults) -> None:
    found = [
        (one.certificate, one.threat.replace("\u00a0", " "), one.point.value) for one in certified_results(certified, certified.models[0])
    ]
    assert found == [("columns", "patches of 5 px", 40.0), ("both", "patches of 5 px", 0.0)]
    assert "; certified accuracy 40.0" in conclusion(certified, certified.models[0]).sentence
    assert "with columns against patches of 5" in conclusion(certified, certified.models[0]).sentence


def test_certificates_that_share_a_metric_have_a_column_each(certified: SuiteResults) -> None:
    titles = [column.title for column in ranking([certified]).columns]
    assert {"columns certified accuracy (patch=2)", "both certified accuracy (patch=5)"} <= set(titles)


def test_an_undefined_level_is_no_point_of_the_curve(certified: SuiteResults) -> None:
    rows = certified.models[0].rows
    rows.loc[rows["metric"] == "certified_accuracy(patch=5)", ["value", "status"]] = [float("nan"), "undefined"]
    assert [tick.text for tick in certified_panels(SuiteResults(certified.name, certified.data, certified.models[:1]))[0].columns] == [
        "0",
        "2",
    ]


def test_a_certificate_of_radius_zero_alone_has_a_sentence(certified: SuiteResults) -> None:
    rows = certified.models[0].rows
    rows.loc[rows["metric"] == "certified_accuracy(patch=5)", "metric"] = "certified_accuracy_l2(radius=0)"
    kept = rows[rows["metric"] != "certified_accuracy(patch=2)"]
    alone = replace(certified.models[0], rows=kept)
    assert "; certified accuracy 90.0" in conclusion(SuiteResults(certified.name, certified.data, (alone,)), alone).sentence


def test_without_certificates_there_is_nothing_to_draw(suite: SuiteResults) -> None:
    assert certified_panels(suite) == []
    assert certified_results(suite, suite.models[0]) == []
