"""Numbers of the page that are complete and doubted, and what an attack found under its own draw."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from robustvit.report.columns import Column
from robustvit.report.points import Point, point_text, stated_text, value_text
from robustvit.report.ranking import _attacks, _entry, strongest_attacks
from robustvit.report.suite_results import ScenarioSetting

COLUMN = Column("pgd 8/255", "pgd 8/255", "%", True)


def test_a_complete_number_with_a_reason_is_marked() -> None:
    doubted, plain = Point(90.0, 80.0, 95.0, note="gradients were not finite"), Point(40.0, 30.0, 50.0)
    assert "(marked: gradients were not finite)" in point_text(doubted)
    entries = [_entry(one, COLUMN, 100.0) for one in (doubted, plain)]
    assert [entry.doubted for entry in entries] == [True, False]
    assert "(partial: 3 of 4)" in point_text(Point(1.0, status="partial", note="3 of 4"))
    assert not Point(math.nan, note="why").doubted


def test_a_partial_number_says_so_in_sentences_and_in_the_ranking() -> None:
    partial = Point(33.3, 13.8, 60.9, status="partial", note="1 of 4 attacks")
    assert stated_text(partial).endswith("60.9] (partial)")
    assert stated_text(Point(33.3)) == value_text(Point(33.3))
    assert _entry(partial, COLUMN, 100.0).kind == "partial"


def test_what_an_attack_found_under_its_own_draw_has_a_column_beside_the_fresh_number() -> None:
    class Random:
        rows = pd.DataFrame({"metric": [], "cell": []})

        def points(self, metric: str) -> dict[ScenarioSetting, Point]:
            found = {"robust_accuracy": 13.0, "robust_accuracy_same_draw": 0.0}
            return {ScenarioSetting("pgd", "", "8/255"): Point(found[metric])}

    model: Any = Random()
    assert [(column.title, point.value) for column, point in _attacks(model).items()] == [
        ("pgd 8/255", 13.0),
        ("pgd 8/255, same draw", 0.0),
    ]


def test_a_failed_attack_hides_no_other_number_of_that_attack_and_lends_none() -> None:
    """The lowest of those that have a value, whatever comes first; an attack through the host is an attack by itself."""

    class Attacked:
        def points(self, metric: str) -> dict[ScenarioSetting, Point]:
            values = {"steps=5": math.nan, "steps=9": 13.0, "steps=2": 40.0, "steps=5, through=host": 7.0}
            return {ScenarioSetting("pgd", params, "8/255"): Point(value) for params, value in values.items()}

    model: Any = Attacked()
    found = strongest_attacks(model)
    assert {key: point.value for key, point in found.items()} == {("pgd", "8/255"): 13.0, ("pgd through host", "8/255"): 7.0}
