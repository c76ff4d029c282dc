"""Panels of curves, bars and symbols as numbers and SVG paths."""

import itertools
import math

import pytest

from robustvit.report import colours, figures
from robustvit.report.figures import Series
from robustvit.report.points import Point


def curve(*values: float, slot: int = 0) -> Series:
    return Series(slot, "demo", tuple(Point(value, value - 2, value + 2) for value in values))


def test_zero_and_the_top_of_the_axis_are_its_ends() -> None:
    panel = figures.panel("fog", ["1", "2"], [curve(0.0, 100.0)])
    first, last = (part.split(" ") for part in panel.curves[0].path.removeprefix("M").split("L"))
    assert float(first[1]) == panel.base == panel.rows[0].at
    assert float(last[1]) == panel.rows[-1].at


def test_levels_are_spaced_by_their_values_inside_the_panel() -> None:
    xs = [tick.at for tick in figures.panel("fog", ["0", "1", "3", "5"], [curve(1, 2, 3, 4)]).columns]
    gaps = [b - a for a, b in itertools.pairwise(xs)]
    assert gaps == pytest.approx([gaps[0], 2 * gaps[0], 2 * gaps[0]], abs=0.15)
    assert 0 < xs[0] < xs[-1] < 220


def test_hovers_cover_the_panel_without_a_gap() -> None:
    panel = figures.panel("fog", ["0", "1", "5"], [curve(1, 2, 3)])
    ends = [(hover.x, hover.x + hover.width) for hover in panel.hovers]
    assert (ends[0][0], ends[-1][1]) == (panel.left, panel.right)
    assert [right for _, right in ends[:-1]] == pytest.approx([left for left, _ in ends[1:]], abs=0.11)
    assert all(left < tick.at < right for (left, right), tick in zip(ends, panel.columns, strict=True))


def test_an_axis_names_what_it_is_its_unit_and_a_logarithmic_scale() -> None:
    panel = figures.panel("pgd", ["0", "0.25/255", "8/255"], [curve(1, 2, 3)], axis="radius ε, linf")
    assert panel.axis == "radius ε, linf, in 1/255, log scale, 0 apart"
    assert figures.panel("fog", ["0", "1"], [curve(1, 2)]).axis == ""


def test_a_missing_number_leaves_a_gap_and_a_failed_one_a_cross() -> None:
    points = (Point(90.0), Point(math.nan, status="failed", note="out of memory"), Point(50.0), Point(math.nan, status="absent"))
    (drawn,) = figures.panel("fog", ["1", "2", "3", "4"], [Series(0, "demo", points)]).curves
    assert drawn.path.count("M") == 2
    assert [mark.kind for mark in drawn.marks] == ["complete", "failed", "complete"]


def test_a_failed_number_is_drawn_where_there_are_no_values() -> None:
    panel = figures.panel("fog", ["1"], [Series(slot, "demo", (Point(math.nan, status="failed"),)) for slot in range(4)])
    heights = {float(curve.marks[0].path.removeprefix("M").split("l")[0].split(" ")[1]) for curve in panel.curves}
    assert min(heights) > panel.base


def test_equal_curves_stand_beside_each_other() -> None:
    panel = figures.panel("fog", ["1", "2"], [curve(50.0, 40.0, slot=slot) for slot in range(13)])
    firsts = [float(drawn.path.removeprefix("M").split(" ")[0]) for drawn in panel.curves]
    assert len(set(firsts)) == 13
    assert max(firsts) - min(firsts) <= 12
    assert sum(firsts) / 13 == pytest.approx(panel.columns[0].at, abs=0.1)
    (alone,) = figures.panel("fog", ["1", "2"], [curve(50.0, 40.0)]).curves
    assert float(alone.path.removeprefix("M").split(" ")[0]) == panel.columns[0].at


def test_a_partial_number_is_drawn_hollow() -> None:
    (drawn,) = figures.panel("fog", ["1"], [Series(0, "demo", (Point(40.0, status="partial"),))]).curves
    assert [mark.kind for mark in drawn.marks] == ["partial"]


def test_a_band_closes_around_its_curve() -> None:
    (drawn,) = figures.panel("fog", ["1", "2"], [curve(50.0, 40.0)]).curves
    assert drawn.band.endswith("z")
    assert drawn.band.count("L") == 3


def test_a_tooltip_has_every_curve_at_its_level() -> None:
    panel = figures.panel("fog", ["3"], [curve(50.0), Series(1, "other", (Point(math.nan, status="failed", note="no room"),))])
    assert panel.hovers[0].tip == "fog · 3\ndemo: 50.0\u00a0% [48.0,\u00a052.0]\nother: failed: no room"


def test_values_beyond_the_axis_stay_inside_the_panel() -> None:
    panel = figures.panel("nll", ["1", "2"], [curve(7.0, -1.0)], top=5.0, unit="nat")
    heights = [float(part.split(" ")[1]) for part in panel.curves[0].path.removeprefix("M").split("L")]
    assert heights == [panel.rows[-1].at, panel.base]


def test_a_bar_without_an_interval_has_its_ends_at_the_value() -> None:
    assert figures.bar(40.0, math.nan, math.nan) == figures.Bar(40.0, 40.0, 40.0)
    assert figures.bar(20.0, 10.0, 30.0, top=50.0) == figures.Bar(40.0, 20.0, 60.0)


@pytest.mark.parametrize(("largest", "top"), [(0.83, 1.0), (1.7, 2.0), (2.3, 2.5), (4.2, 5.0), (70.0, 100.0), (0.0, 1.0)])
def test_an_axis_ends_at_a_round_number_above_its_values(largest: float, top: float) -> None:
    assert figures.axis_end([largest, math.nan]) == pytest.approx(top)


def test_neighbouring_slots_differ_in_shape() -> None:
    assert len({figures.symbol(slot, 0, 0) for slot in range(4)}) == 4
    assert figures.symbol(0, 0, 0) != figures.symbol(colours.COLOURS, 0, 0)
