"""Scores over a number that a transform takes: an input size, a share of patches, a budget of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from robustvit.report.figures import Panel, Series, axis_end, panel
from robustvit.report.labels import scenario_title, sorted_levels
from robustvit.report.points import NOT_EVALUATED, Point
from robustvit.report.suite_results import ModelResults, ScenarioSetting, SuiteResults
from robustvit.spec.spec import Spec
from robustvit.spec.written.call import called
from robustvit.spec.written.words import metric_name, with_spaces

_LEAST = 3  # levels of one curve at least, so that there are panels; of any other, two
_MOST = 12  # panels of a suite
_FIRST = ("top1", "robust_accuracy", "ece")  # metrics, in the order of their panels
_ARROW = " → "
_NUMBER = re.compile(r"\d+(\.\d+)?(/\d+(\.\d+)?)?")


class _Place(NamedTuple):
    """A model on a curve: which number of which transform is its level, and what else it is."""

    transform: str
    parameter: str
    level: str
    series: str


class CurveName(NamedTuple):
    """A curve in a legend. slot: its colour and symbol."""

    slot: int
    name: str


class TransformCurves(NamedTuple):
    """The panels over one number of one transform, which have their curves in common. tag: `image size · scale`."""

    tag: str
    names: tuple[CurveName, ...]
    panels: tuple[Panel, ...]


def transform_panels(suite: SuiteResults, chance: float | None) -> list[Panel]:
    """The panels of `transform_curves`, one after another."""
    return [panel for group in transform_curves(suite, chance) for panel in group.panels]


def transform_curves(suite: SuiteResults, chance: float | None) -> list[TransformCurves]:
    """A panel for each score of a suite over each number of a transform that takes at least three values on one model.

    Models that differ in anything else are curves of their own, where they take two values or more. Scores are accuracies and calibration
    errors of clean images, and accuracies under attack.
    """
    seeds = len({_seed(model) for model in suite.models}) > 1
    places = [(model, place) for model in suite.models for place in _places(model, f" · seed {_seed(model)}" if seeds else "")]
    axes = list(dict.fromkeys((place.transform, place.parameter) for _, place in places))
    groups: list[TransformCurves] = []
    slots: dict[str, int] = {}  # of every curve's name, so that no two of the suite look alike before colours and symbols run out
    for transform, parameter in axes:
        curves: dict[str, dict[str, ModelResults]] = {}
        for model, place in places:
            if place[:2] == (transform, parameter):
                curves.setdefault(place.series, {}).setdefault(place.level, model)
        if max(map(len, curves.values())) < _LEAST:
            continue
        curves = {name: levels for name, levels in curves.items() if len(levels) > 1}
        names = tuple(CurveName(slots.setdefault(name, len(slots)), name) for name in curves)
        tag, room = f"{with_spaces(transform)} · {parameter}", _MOST - sum(len(group.panels) for group in groups)
        if panels := [_panel(suite, tag, one, curves, slots, chance) for one in _scores(curves)[:room]]:
            groups.append(TransformCurves(tag, names, tuple(panels)))
    return groups


def _seed(model: ModelResults) -> int:
    return int(model.rows["seed"].iloc[0])


def _places(model: ModelResults, seed: str) -> Iterator[_Place]:
    text = str(model.rows["transforms"].iloc[0])
    if not text:
        return
    steps = [called(step, "a transform") for step in text.split(_ARROW)]
    for place, step in enumerate(steps):
        for key, value in step.params:
            if _NUMBER.fullmatch(str(value)):
                rest = [*steps[:place], step.without(key), *steps[place + 1 :]]
                yield _Place(step.name, key, str(value), f"{model.label}{_others(rest, place)}{seed}")


def _others(steps: list[Spec], place: int) -> str:
    """What a curve is named by beside the model: its transforms, and the other parameters of the one whose number is the level."""
    kept = [str(step) if at != place else ", ".join(f"{key}={value}" for key, value in step.params) for at, step in enumerate(steps)]
    return "".join(f" · {text}" for text in kept if text)


def _scores(curves: dict[str, dict[str, ModelResults]]) -> list[tuple[str, ScenarioSetting]]:
    """The metrics and settings that a model of the curves has, clean images first."""
    found: dict[tuple[str, ScenarioSetting], None] = {}
    for metric in _FIRST:
        for model in (model for levels in curves.values() for model in levels.values()):
            for setting in model.points(metric):
                if setting.scenario == "clean" or metric == "robust_accuracy":
                    found.setdefault((metric, setting))
    return list(found)


def _panel(
    suite: SuiteResults,
    tag: str,
    score: tuple[str, ScenarioSetting],
    curves: dict[str, dict[str, ModelResults]],
    slots: dict[str, int],
    chance: float | None,
) -> Panel:
    metric, setting = score
    levels = sorted_levels([level for models in curves.values() for level in models])
    points = {
        name: {level: model.points(metric).get(setting, NOT_EVALUATED) for level, model in models.items()}
        for name, models in curves.items()
    }
    series = [Series(slots[name], name, tuple(own.get(level, NOT_EVALUATED) for level in levels)) for name, own in points.items()]
    unit = suite.unit(metric)
    values: list[Point] = [point for own in points.values() for point in own.values()]
    title = f"{scenario_title((setting.scenario, setting.params), [])} {setting.severity}".strip()
    named = title if metric in ("top1", "robust_accuracy") else f"{title} · {metric_name(metric)}"
    top = 100.0 if unit == "%" and metric != "ece" else axis_end([point.value for point in values])
    return panel(named, levels, series, axis=tag, top=top, unit=unit, chance=chance if metric == "top1" else None)
