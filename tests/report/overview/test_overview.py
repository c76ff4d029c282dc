"""The overview of a model: its numbers by family, and the figure of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from robustvit.errors import UsageError
from robustvit.records.store import Store
from robustvit.report.overview.overview_layout import Dot, Label, OverviewFigure, Stroke, overview_figure, texts_overlap
from robustvit.report.overview.overview_numbers import Overview, overviews
from robustvit.report.overview.overview_svg import overview_svg
from robustvit.report.page import write_report
from robustvit.report.papers.figure_files import write_figure
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.paired_best import PairedTests

METRICS = ("top1", "corruption_error", "mean_corruption_error", "robust_accuracy")
LETTERS = {"title": 14.5, "sub": 8.0, "family": 8.8, "absent": 8.0, "row": 7.4, "small": 6.4, "tick": 6.6, "foot": 6.6, "value": 9.9,
           "interval": 7.2, "second": 6.7}  # fmt: skip
Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def right(count: int, n: int = 40) -> list[bool]:
    return [i < count for i in range(n)]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    """Two models: clean, two corruptions, a rotation, an attack at two budgets and one that failed to give rows, and a pipeline."""
    cells: dict[tuple[str, str, str], Any] = {}
    for model, fewer in (("a", 0), ("b", 9)):
        cells |= {(model, "clean", ""): answered(right(38 - fewer)), (model, "fog", "1"): answered(right(30 - fewer))}
        cells |= {(model, "snow", "1"): answered(right(20 - fewer))}
        for budget, count in (("1/255", 25), ("4/255", 12)):
            cells[model, "pgd", budget] = answered(right(count - fewer), attacked=right(38 - fewer))
        cells[f"{model} → quantize(bits=4)", "clean", ""] = answered(right(33 - fewer))
    return make_store(cells, metrics=METRICS)


@pytest.fixture
def board(store: Store) -> Leaderboard:
    return build_leaderboard(store)


def labels(figure: OverviewFigure, kind: str) -> list[str]:
    return [one.text for one in figure.shapes if isinstance(one, Label) and one.kind == kind]


def test_each_family_has_its_headline_beside_the_clean_accuracy(board: Leaderboard) -> None:
    first, second = overviews(board.rows)
    assert [(one.family, one.title, round(one.point.value, 2)) for one in first.numbers] == [
        ("clean", "top-1 accuracy", 95.0),
        ("corruption", "mean over corruptions", 62.5),
        ("attack", "pgd 4/255", 30.0),
        ("compressed", "quantize(bits=4), clean", 82.5),
    ]
    assert {one.clean for one in first.numbers[1:]} == {95.0}
    assert first.missing == ("shift", "patch", "geometry", "transfer", "certified")
    assert (second.model, second.families) == ("b", ("corruption", "attack", "compressed"))


def test_an_error_is_drawn_as_the_rest_of_100_with_its_interval_turned(board: Leaderboard) -> None:
    rows = board.rows
    (error,) = rows[(rows["metric"] == "mean_corruption_error") & (rows["model"] == "a") & (rows["transforms"] == "")].itertuples()
    point = overviews(rows)[0].numbers[1].point
    assert (point.value, point.low, point.high) == (100 - error.value, 100 - error.high, 100 - error.low)


def test_what_was_not_evaluated_is_named_and_has_no_mark(board: Leaderboard) -> None:
    overview = overviews(board.rows)[0]
    figure = overview_figure(overview)
    assert labels(figure, "absent") == list(overview.missing)
    assert labels(figure, "small").count("not evaluated") == 5
    assert sum(isinstance(one, Dot) for one in figure.shapes) == len(overview.numbers)


def test_marks_and_whiskers_lie_at_their_values(board: Leaderboard) -> None:
    overview = overviews(board.rows)[0]
    figure = overview_figure(overview)
    ticks = {one.text: one.x for one in figure.shapes if isinstance(one, Label) and one.kind == "tick" and one.anchor == "middle"}
    unit = (ticks["100"] - ticks["0"]) / 100
    dots = [one for one in figure.shapes if isinstance(one, Dot)]
    whiskers = [one for one in figure.shapes if isinstance(one, Stroke) and one.kind == "whisker"]
    for number, dot, whisker in zip(overview.numbers, dots, whiskers, strict=True):
        ends = (number.point.value, number.point.low, number.point.high)
        found = [(x - ticks["0"]) / unit for x in (dot.x, whisker.x, whisker.to_x)]
        assert found == pytest.approx(ends, abs=0.1)
        assert dot.y == whisker.y == whisker.to_y
    assert labels(figure, "value") == ["95.0", "62.5", "30.0", "82.5"]


def test_a_reference_stands_below_with_what_paired_tests_show(board: Leaderboard) -> None:
    first, second = overviews(board.rows)
    figure = overview_figure(first, second, PairedTests(board))
    assert sum(isinstance(one, Dot) and one.kind == "second" for one in figure.shapes) == len(first.numbers)
    assert labels(figure, "second")[1::2] == ["differs"] * 4  # 9 images that one alone has right: p = 0.004, and Holm over four rows
    same = overview_figure(first, first, PairedTests(board))
    assert labels(same, "second")[1::2] == ["no difference"] * 4


@pytest.mark.parametrize("against", [False, True])
def test_no_text_lies_on_another(board: Leaderboard, against: bool) -> None:
    first, second = overviews(board.rows)
    figure = overview_figure(first, second if against else None, PairedTests(board))
    assert texts_overlap(figure.shapes, LETTERS) == []
    assert all(one.x <= 932 and one.y <= figure.height - 8 for one in figure.shapes if isinstance(one, Label))


def test_a_number_without_a_value_is_its_status_and_not_nought(make_store: Make, answered: Columns) -> None:
    cells = {("a", "clean", ""): answered(right(38)), ("a", "fog", "1"): answered(right(30)), ("a", "snow", "1"): None}
    overview = overviews(build_leaderboard(make_store(cells, metrics=METRICS, asked=40)).rows)[0]
    assert [math.isnan(one.point.value) for one in overview.numbers] == [False, True]
    figure = overview_figure(overview)
    assert labels(figure, "value") == ["95.0", "partial"]
    assert sum(isinstance(one, Dot) for one in figure.shapes) == 1


@pytest.mark.parametrize(("change", "mark"), [({"gradients": "suspect: why"}, "!"), ({"reason": "why"}, "?"), ({}, "]")])
def test_a_number_that_is_doubted_is_marked(board: Leaderboard, change: dict[str, str], mark: str) -> None:
    rows = board.rows.copy()
    rows.loc[rows["metric"] == "robust_accuracy", list(change)] = list(change.values())
    figure = overview_figure(overviews(rows)[0])
    assert [text for text in labels(figure, "interval") if "[" in text][2][-1] == mark
    assert any(f" {mark} marks " in text for text in labels(figure, "foot")) is bool(change)


def test_the_svg_is_xml_with_its_own_style_and_tooltips_and_escapes_names(board: Leaderboard) -> None:
    first = overviews(board.rows)[0]
    named = Overview("<b>&", first.label, first.numbers, {}, (), ())
    text = overview_svg(overview_figure(named, slot=1), standalone=True)
    root = ElementTree.fromstring(text)
    assert (root.get("width"), root.get("role")) == ("960", "img")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "&lt;b&gt;&amp;" in text
    assert "data-tip" not in text
    assert "<style" not in overview_svg(overview_figure(first))


def test_the_report_begins_with_the_overviews(store: Store, make_store: Make, answered: Columns, tmp_path: Path) -> None:
    page = write_report(store, tmp_path / "report.html").read_text()
    assert page.index('id="overview"') < page.index('id="leaderboard"')
    assert page.count('<svg class="overview"') == 2
    one = make_store({("a", "clean", ""): answered(right(9)), ("a", "fog", "1"): answered(right(8))}, metrics=METRICS, name="one")
    assert 'id="overview"' not in write_report(one, tmp_path / "one.html").read_text()


def test_the_command_writes_one_model_against_another(store: Store, tmp_path: Path) -> None:
    text = write_figure(store, "overview", tmp_path / "a.svg", models=["a"], against="b").read_text()
    assert all(f">{word}<" in text for word in ("a", "corruption", "attack", "compressed", "differs"))
    assert write_figure(store, "overview", tmp_path / "b.svg", models=["a"], against="b").read_text() == text
    with pytest.raises(UsageError, match="an overview is of one model; choose with --model: a, b"):
        write_figure(store, "overview", tmp_path / "a.svg")
    with pytest.raises(UsageError, match="--against names the model itself, 'a'"):
        write_figure(store, "overview", tmp_path / "a.svg", models=["a"], against="a")
    with pytest.raises(UsageError, match="--against is for the figure 'overview', and not for 'attacks'"):
        write_figure(store, "attacks", tmp_path / "a.svg", against="b")


@pytest.mark.parametrize("form", ["pdf", "png"])
def test_other_forms_are_drawn_by_matplotlib(store: Store, tmp_path: Path, form: str) -> None:
    pytest.importorskip("matplotlib")
    for name, words in (("overview", {"models": ["a"], "against": "b"}), ("pareto", {"score": "pgd 4/255", "cost": "parameters"})):
        made = write_figure(store, name, tmp_path / f"{name}.{form}", **words).read_bytes()
        assert made.startswith(b"%PDF" if form == "pdf" else b"\x89PNG")
        assert write_figure(store, name, tmp_path / f"again.{form}", **words).read_bytes() == made


def test_a_pareto_plot_is_written_without_matplotlib(store: Store, tmp_path: Path) -> None:
    text = write_figure(store, "pareto", tmp_path / "p.svg", score="pgd 4/255", cost="parameters").read_text()
    assert "pgd 4/255, % (higher is better)" in text
    with pytest.raises(UsageError, match=r"--cost 'macss' is unknown\. Did you mean 'macs'"):
        write_figure(store, "pareto", tmp_path / "p.svg", cost="macss")
    with pytest.raises(UsageError, match="no model here has a number called 'pgd 4'"):
        write_figure(store, "pareto", tmp_path / "p.svg", score="pgd 4")
