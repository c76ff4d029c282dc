"""Curves over depth: of clean images and of each shift, on axes that reach below zero; other lists leave their points out."""

from __future__ import annotations

from pathlib import Path

import pytest

import robustvit as rv
from robustvit.report.curves.depth_curves import depth_curves, depth_panels
from robustvit.report.figures import Series, panel
from robustvit.report.page import write_report
from robustvit.report.points import Point
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.pages import pages
from robustvit.results.parameters import differing_parameters
from robustvit.spec.suite_file import read_suite
from robustvit.statistics.estimates import of_scores, on_curve

SUITE = """
name: deep
title: Over depth
data: digits
scenarios:
  - clean
  - fourier: {corruption: {gaussian_noise: {severity: [3, 5]}}}
  - fourier: {attack: {fgsm: {eps: 8/255}}}
  - cka: {corruption: {gaussian_noise: {severity: 3}}, group: 16}
metrics:
  - top1
  - high_frequencies: {of: attention, side: shifted, drift: true}
  - high_frequencies: {of: attention, block: [0, 1, 2, 3, 4], side: [clean, shifted]}
  - high_frequencies: {of: attention, block: [0, 1], side: shifted, drift: true}
  - cka: {block: [0, 1, 2, 3]}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    (folder / "deep.yaml").write_text(SUITE)
    rv.run(read_suite(folder / "deep.yaml"), ["demo"], limit=64, store=folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def suite(store: Path) -> SuiteResults:
    (found,) = results_by_suite(build_leaderboard(store).rows)
    return found


def test_a_panel_has_a_curve_for_clean_images_and_for_each_shift(suite: SuiteResults, store: Path) -> None:
    (group,) = depth_curves(suite)
    assert group.tag == "demo"
    assert [one.name for one in group.names] == ["clean", "gaussian noise 3", "gaussian noise 5", "fgsm eps=8/255"]
    frequencies, alike = group.panels
    assert frequencies.title == "high frequencies · of=attention"
    assert [tick.text for tick in frequencies.columns] == ["0", "1", "2", "3"], "the demo has no block 4"
    assert [one.name for one in alike.series] == ["gaussian noise 3"], "CKA compares with clean images"
    table = rv.leaderboard(store)
    for name, severity, side in (("clean", "3", ""), ("gaussian noise 5", "5", ", side=shifted")):
        own = table[(table["severity"] == severity) & (table["scenario"] == "fourier")].set_index("metric")["value"]
        points = next(one.points for one in frequencies.series if one.name == name)
        assert [point.value for point in points] == [own[f"high_frequencies(block={block}, of=attention{side})"] for block in range(4)]
    assert len(depth_panels(suite)) == 2


def test_an_axis_reaches_below_zero_as_far_as_values_do(suite: SuiteResults) -> None:
    frequencies = depth_panels(suite)[0]
    lowest = min(point.low for one in frequencies.series for point in one.points)
    assert frequencies.bottom <= lowest < 0
    drawn = panel("x", ["0", "1"], [Series(0, "a", (Point(-1.0), Point(1.0)))], top=1.0, bottom=-1.0)
    assert [tick.text for tick in drawn.rows] == ["-1", "", "0", "", "1"]
    assert drawn.rows[0].at - drawn.rows[2].at == pytest.approx(drawn.rows[2].at - drawn.rows[4].at)
    assert drawn.curves[0].path.split("L")[1].split()[1] == str(drawn.rows[4].at)


def test_the_page_draws_them_and_other_lists_leave_their_points_out(store: Path, tmp_path: Path) -> None:
    write_report(store, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "By depth" in text
    assert "gaussian noise 5" in text
    shown = "".join(str(page.table) + str(list(page.table.columns)) + page.title for page in pages(build_leaderboard(store).rows))
    assert "block=" not in shown
    assert "drift" in shown
    assert any("block=2" in str(metric) for metric in rv.leaderboard(store)["metric"])


def test_points_of_curves_are_known_by_their_parameter() -> None:
    assert on_curve("cka(block=2)")
    assert on_curve("high_frequencies(block=0, of=attention)")
    assert not on_curve("high_frequencies(of=attention)")
    assert not on_curve("top1")
    assert of_scores("class_identifiability(side=shifted)")
    assert not of_scores("class_identifiability(block=1)")
    assert not of_scores("attention_distance")


def test_parameters_that_are_none_name_nothing_where_others_do() -> None:
    corrupted, attacked = "attack=None, corruption=fog", "attack=pgd(eps=1/255), corruption=None"
    assert differing_parameters(corrupted, [attacked]) == "corruption=fog"
    assert differing_parameters(attacked, [corrupted]) == "attack=pgd(eps=1/255)"
    assert differing_parameters("step=None", ["step=0.1"]) == "step=None"
