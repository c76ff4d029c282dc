"""Curves over a number of a transform."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import answers, write_store

from robustvit.records.store import Store
from robustvit.report.curves.transform_curves import transform_curves, transform_panels
from robustvit.report.page import render
from robustvit.report.suite_results import results_by_suite
from robustvit.results.leaderboard import build_leaderboard, leaderboard

RIGHT = {
    "image_size(scale=1)": 9, "image_size(scale=12/7)": 8, "image_size(scale=32/7)": 3, "image_size(enlarged=True, scale=12/7)": 7,
    "image_size(enlarged=True, scale=9/7)": 8, "image_size(enlarged=True, scale=32/7)": 2, "image_size(positions=none, scale=12/7)": 1,
    "image_size(positions=none, scale=32/7)": 0, "image_size(positions=nearest, scale=32/7)": 4,
    "quantize(bits=4) → tome(r=4)": 5, "quantize(bits=4) → tome(r=8)": 4, "quantize(bits=4) → tome(r=13)": 3,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    cells = {(f"a → {steps}", "clean", ""): answers([1] * right + [0] * (10 - right)) for steps, right in RIGHT.items()}
    return write_store(tmp_path / "store", cells | {("a", "clean", ""): answers([1] * 10)})


def test_a_panel_for_each_number_and_a_curve_for_whatever_else_differs(store: Store) -> None:
    (suite,) = results_by_suite(leaderboard(store))
    sizes, tokens = transform_panels(suite, 10.0)
    assert (sizes.title, sizes.axis, sizes.chance is None) == ("clean", "image size · scale", False)
    assert [tick.text for tick in sizes.columns] == ["1", "", "12/7", "32/7"]
    lines = [hover.tip.splitlines()[1:] for hover in sizes.hovers]
    assert [line.partition(" [")[0] for line in lines[3]] == [
        "a: 30.0\u00a0%",
        "a · enlarged=True: 20.0\u00a0%",
        "a · positions=none: 0.0\u00a0%",
    ]
    assert not any("nearest" in line for line in lines[3]), "one level is no curve"
    assert (tokens.axis, [tick.text for tick in tokens.columns]) == ("tome · r", ["4", "8", "13"])
    assert tokens.hovers[2].tip.splitlines()[1].startswith("a · quantize(bits=4): 30.0")


def test_the_curves_of_a_number_have_their_own_legend_without_two_that_look_alike(store: Store) -> None:
    (suite,) = results_by_suite(leaderboard(store))
    sizes, tokens = transform_curves(suite, None)
    assert [(one.slot, one.name) for one in sizes.names] == [(0, "a"), (1, "a · enlarged=True"), (2, "a · positions=none")]
    assert [(one.slot, one.name) for one in tokens.names] == [(3, "a · quantize(bits=4)")]
    for group in (sizes, tokens):
        assert [(one.slot, one.name) for one in group.names] == [(one.slot, one.name) for one in group.panels[0].series]
        assert [one.slot for one in group.names] == [one.slot for one in group.panels[0].curves]


def test_the_page_shows_them_and_none_where_there_are_none(store: Store, tmp_path: Path) -> None:
    assert "Over what a transform takes" in render(build_leaderboard(store), store)
    other = write_store(tmp_path / "other", {("a", "clean", ""): answers([1, 0])})
    assert "Over what a transform takes" not in render(build_leaderboard(other), other)
