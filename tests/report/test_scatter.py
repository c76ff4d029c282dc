"""The Pareto plot: positions, labels, and escaping of names."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from robustvit.errors import NotApplicable, UsageError
from robustvit.report.pareto_plot import pareto_plot
from robustvit.report.scatter import ScatterPoint, scatter, svg
from robustvit.results.factors.view import factor_view

MODELS = [
    ScatterPoint("small", 1.0, 60.0, 58.0, 62.0, "a", True),
    ScatterPoint("waste", 10.0, 50.0, math.nan, math.nan, "b", False),
    ScatterPoint("large", 100.0, 80.0, 79.0, 81.0, "b", True),
]


def drawn(points: list[ScatterPoint]) -> ElementTree.Element:
    return ElementTree.fromstring(svg(scatter(points, title="t", across="GMACs", up="top-1"), standalone=True))


def test_the_plot_is_xml_with_a_mark_for_each_model() -> None:
    marks = [node for node in drawn(MODELS).iter() if node.get("class") == "mark"]
    assert len(marks) == len(MODELS) + 2  # and the legend's


def test_costs_are_logarithmic_and_scores_even() -> None:
    made = scatter(MODELS, title="t", across="", up="")
    by_text = {tick.text: tick.at for tick in made.columns}
    assert by_text["10"] - by_text["1"] == pytest.approx(by_text["100"] - by_text["10"], abs=0.2)
    rows = [tick.at for tick in made.rows]
    assert all(b - a == pytest.approx(rows[1] - rows[0], abs=0.2) for a, b in pairwise(rows))


def test_the_front_is_a_staircase_through_its_models() -> None:
    made = scatter(MODELS, title="t", across="", up="")
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+", made.front)


def test_models_with_intervals_have_whiskers() -> None:
    made = scatter(MODELS, title="t", across="", up="")
    assert sorted(bool(model.whisker) for model in made.models) == [False, True, True]


def test_a_few_models_are_all_labelled_without_overlap() -> None:
    points = [ScatterPoint(f"model-{i}", 10 + i / 99, 50 + i / 99, front=i == 0) for i in range(12)]
    made = scatter(points, title="t", across="", up="")
    assert {model.label for model in made.models} == {point.name for point in points}
    by_anchor = [sorted(model.y for model in made.models if model.anchor == anchor) for anchor in ("start", "end")]
    assert all(lower - upper >= 12 for heights in by_anchor for upper, lower in pairwise(heights))


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = f"vit_tiny_patch16_224?{'x' * 80} (random weights)"
    (model,) = scatter([ScatterPoint(name, 1.0, 50.0)], title="t", across="", up="").models
    assert (model.label[:20], model.label[-16:], len(model.label)) == (name[:20], "(random weights)", 44)
    assert model.tip.startswith(name)


def test_of_many_models_only_the_front_is_labelled_and_labels_never_overlap() -> None:
    points = [ScatterPoint(f"a-model-with-a-long-name-{i}", 10 + i / 99, 50 + i / 99, front=True) for i in range(12)]
    made = scatter([*points, *MODELS], title="t", across="", up="")
    named = [model for model in made.models if model.label]
    heights = sorted(model.y for model in named if model.anchor == "end")
    assert all(lower - upper >= 12 for upper, lower in pairwise(heights))
    assert 0 < len(named) < 14
    assert "waste" not in {model.label for model in made.models}
    assert all("\n" in model.tip for model in made.models)


@pytest.mark.parametrize("points", [[MODELS[0]], [MODELS[0], MODELS[0]], [ScatterPoint("zero", 1.0, 0.0), ScatterPoint("none", 1.0, 0.0)]])
def test_equal_numbers_make_a_plot(points: list[ScatterPoint]) -> None:
    assert "nan" not in ElementTree.tostring(drawn(points), encoding="unicode")


def test_a_hostile_name_stays_text() -> None:
    hostile = ScatterPoint('<script>alert("x")</script>', 1.0, 60.0, group="<b>", front=True)
    for standalone in (True, False):
        text = svg(scatter([hostile, MODELS[2]], title='"><script>', across="<", up="&"), standalone=standalone)
        assert "<script" not in text
        ElementTree.fromstring(text)


def test_the_published_models_are_drawn_with_their_front_named() -> None:
    made = pareto_plot(factor_view(), "imagenet-a")
    assert len(made.models) == 49
    assert "vit_base_patch8_224.augreg_in21k_ft_in1k" in {model.label for model in made.models}
    assert [name for _, name in made.groups] == ["in1k", "in21k", "in22k"]


def test_a_plot_needs_two_models_and_a_score_of_the_view() -> None:
    view = factor_view()
    one = replace(view, rows=view.rows.iloc[:1])
    with pytest.raises(NotApplicable, match="at least two models"):
        pareto_plot(one, "imagenet-a")
    with pytest.raises(UsageError, match="'imagenet-b'"):
        pareto_plot(view, "imagenet-b")


def test_a_model_that_costs_nothing_is_not_drawn() -> None:
    view = factor_view()
    free = replace(view, rows=view.rows.assign(macs=view.rows["macs"].where(view.rows.index > 0, 0.0)))
    assert len(pareto_plot(free, "imagenet-a").models) == 48
