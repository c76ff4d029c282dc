"""Severity curves, attack curves and heat maps."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from robustvit.records.store import Store
from robustvit.report.charts import attack_panels, corruption_panels, family_of, heat_map
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import leaderboard


def test_a_curve_begins_at_the_clean_number(suite: SuiteResults) -> None:
    (panel,) = corruption_panels(suite, 10.0)
    assert [tick.text for tick in panel.columns] == ["0", "1", "3", "5"]
    assert panel.hovers[0].tip.splitlines()[1].startswith("demo: 95.0")
    assert (panel.title, panel.tag) == ("fog", "weather")


def test_an_attack_has_a_curve_over_its_budget_and_is_no_corruption(suite: SuiteResults) -> None:
    (panel,) = attack_panels(suite)
    assert (panel.title, panel.scale, [tick.text for tick in panel.columns]) == ("pgd", "1/255", ["0", "1"])
    assert panel.hovers[1].tip.splitlines()[1].startswith("demo: 20.0")
    heat = heat_map(suite.models[0])
    assert heat is not None
    assert [row.title for row in heat.rows] == ["fog"]


@pytest.mark.parametrize(
    ("attack", "params", "axis"),
    [("worst_shift", "pixels=2", "largest shift, px"), ("spatial", "", "largest rotation, degrees"),
     ("patch_fool", "", "number of patches"),
     ("pgd", "norm=l2", "radius ε, l2"), ("torchattacks/CW", "norm=linf", "radius ε, linf")],
)  # fmt: skip
def test_the_axis_of_an_attack_is_what_its_budget_is(suite: SuiteResults, attack: str, params: str, axis: str) -> None:
    rows = suite.models[0].rows.replace({"scenario": {"pgd": attack}})
    rows.loc[rows["scenario"] == attack, ["params", "severity"]] = [params, "2"]
    (panel,) = attack_panels(replace(suite, models=(replace(suite.models[0], rows=rows),)))
    assert panel.axis == axis


def test_the_heat_map_shows_each_number_and_the_error_over_severities(suite: SuiteResults) -> None:
    heat = heat_map(suite.models[0])
    assert heat is not None
    assert heat.levels == ("1", "3", "5")
    assert [cell.text for cell in heat.rows[0].cells] == ["85.0", "65.0", "45.0"]
    assert heat.rows[0].average is not None
    assert heat.rows[0].average.text == "35.0"


def test_failed_and_partial_cells_are_marked(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {("demo", "fog", "1"): answered([True] * 4), ("demo", "fog", "2"): None}
    store = make_store(cells, asked=8)
    store.fail(next(cell for cell in store.cells() if not store.files(cell)), "no room")
    heat = heat_map(results_by_suite(leaderboard(store))[0].models[0])
    assert heat is not None
    assert [(cell.text, cell.kind) for cell in heat.rows[0].cells] == [("100.0", "partial"), ("✕", "failed")]


@pytest.mark.parametrize("status", ["n/a", "undefined"])
def test_an_undefined_cell_shows_its_status(suite: SuiteResults, status: str) -> None:
    rows = suite.models[0].rows.copy()
    rows.loc[(rows["severity"] == "3") & (rows["metric"] == "top1"), ["value", "status"]] = [math.nan, status]
    heat = heat_map(replace(suite.models[0], rows=rows))
    assert heat is not None
    assert [(cell.text, cell.kind) for cell in heat.rows[0].cells][1] == (status, "undefined")


@pytest.mark.parametrize(("name", "family"), [("shot_noise", "noise"), ("fog", "weather"), ("pgd", "other"), ("unknown", "other")])
def test_families_come_from_the_registry(name: str, family: str) -> None:
    assert family_of(name) == family


def test_an_attack_without_robust_accuracies_has_a_curve_and_is_no_corruption(suite: SuiteResults) -> None:
    rows = suite.models[0].rows.replace({"scenario": {"pgd": "mine:attack"}})
    own = replace(suite, models=(replace(suite.models[0], rows=rows[rows["metric"] == "top1"]),))
    (panel,) = attack_panels(own)
    assert (panel.title, [tick.text for tick in panel.columns]) == ("mine:attack", ["0", "1"])
    assert [panel.title for panel in corruption_panels(own, None)] == ["fog"]
