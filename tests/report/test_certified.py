"""Curves of certificates, and the sentence about them."""

from dataclasses import replace

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.report.certified import certified_panels, certified_words
from robustvit.report.ranking import board_of
from robustvit.report.suite_results import Stage, stages
from robustvit.report.text import conclusion
from robustvit.results.leaderboard import leaderboard

PROVED = {  # (scenario, params): metric and value
    ("columns", "width=4"): {"top1": 90.0, "certified_accuracy(patch=5)": 40.0, "certified_accuracy(patch=2)": 60.0},
    ("both", "width=4"): {"top1": 80.0, "certified_accuracy(patch=5)": 0.0, "certified_accuracy(patch=2)": 0.0},
}


@pytest.fixture
def stage(store: Store) -> Stage:
    """Two models with certificates."""
    board = leaderboard(store)
    rows = []
    for model in ("demo", "rival"):
        pattern = board[(board["model"] == model) & (board["scenario"] == "clean")].iloc[0].to_dict()
        for (scenario, params), metrics in PROVED.items():
            for name, value in metrics.items():
                place = {"scenario": scenario, "params": params, "severity": "", "cell": f"{model}{scenario}", "metric": name}
                rows.append({**pattern, **place, "value": value, "low": value, "high": value})
    (found,) = stages(pd.concat([board, pd.DataFrame(rows)], ignore_index=True).astype(board.dtypes))
    return found


def test_a_certificate_is_a_curve_that_begins_at_the_smoothed_models_own_accuracy(stage: Stage) -> None:
    panels = certified_panels(stage)
    assert [(panel.title, panel.tag) for panel in panels] == [("columns", "side of a patch, px"), ("both", "side of a patch, px")]
    assert [tick.text for tick in panels[0].columns] == ["0", "2", "5"]
    assert [hit.tip.splitlines()[1].partition(" [")[0] for hit in panels[0].hits] == [
        "demo: 90.0\u00a0%",
        "demo: 60.0\u00a0%",
        "demo: 40.0\u00a0%",
    ]


def test_the_sentence_tells_the_largest_patch_of_which_something_is_proved(stage: Stage) -> None:
    told = [(name, against.replace("\u00a0", " "), point.value) for name, against, point in certified_words(stage, stage.entrants[0])]
    assert told == [("columns", "patches of 5 px", 40.0), ("both", "patches of 5 px", 0.0)]
    assert "columns prove 40.0" in conclusion(stage, stage.entrants[0]).sentence


def test_certificates_that_share_a_metric_have_a_column_each(stage: Stage) -> None:
    titles = [column.title for column in board_of([stage]).columns]
    assert {"columns certified_accuracy(patch=2)", "both certified_accuracy(patch=5)"} <= set(titles)


def test_what_a_certificate_cannot_tell_is_no_point_of_its_curve(stage: Stage) -> None:
    rows = stage.entrants[0].rows
    rows.loc[rows["metric"] == "certified_accuracy(patch=5)", ["value", "status"]] = [float("nan"), "undefined"]
    assert [tick.text for tick in certified_panels(Stage(stage.suite, stage.data, stage.entrants[:1]))[0].columns] == ["0", "2"]


def test_a_certificate_that_was_asked_of_radius_zero_alone_makes_a_page(stage: Stage) -> None:
    rows = stage.entrants[0].rows
    rows.loc[rows["metric"] == "certified_accuracy(patch=5)", "metric"] = "certified_accuracy_l2(radius=0)"
    kept = rows[rows["metric"] != "certified_accuracy(patch=2)"]
    alone = replace(stage.entrants[0], rows=kept)
    assert "columns prove 90.0" in conclusion(Stage(stage.suite, stage.data, (alone,)), alone).sentence


def test_without_certificates_there_is_nothing_to_draw(store: Store) -> None:
    (plain,) = stages(leaderboard(store))
    assert certified_panels(plain) == []
    assert certified_words(plain, plain.entrants[0]) == []
