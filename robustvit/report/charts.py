"""Severity curves, attack curves and heat maps of a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustvit.report.colours import colour_step
from robustvit.report.figures import Bar, Panel, Series, axis_end, bar, panel
from robustvit.report.labels import format_number, scenario_title, sorted_levels
from robustvit.report.points import NOT_EVALUATED, Point, point_text
from robustvit.report.suite_results import ModelResults, ScenarioSetting, SuiteResults
from robustvit.results.parameters import parsed_parameters
from robustvit.results.scenario_kinds import scenario_kinds
from robustvit.spec import registry
from robustvit.spec.written.words import with_spaces

FAMILIES = ("noise", "blur", "weather", "digital")
_ATTACK_METRIC = "robust_accuracy"
_FEW = 8  # models whose curves of two points, clean and attacked, can be told apart
_ZERO = "0"  # the severity of clean images


@dataclass(frozen=True)
class HeatCell:
    """A value of a heat map. step: its colour, None without a value; kind: as a Point's; tip: its tooltip; bar: its interval."""

    text: str
    step: int | None
    kind: str
    tip: str
    bar: Bar | None = None


@dataclass(frozen=True)
class HeatRow:
    """A scenario of a heat map. family: set on the first row of each family, with the number of rows it spans."""

    title: str
    family: str
    span: int
    cells: tuple[HeatCell, ...]
    average: HeatCell | None


@dataclass(frozen=True)
class HeatMap:
    """Scenario × severity of one model. average: the heading of the last column, "" without one; top: the end of the colour scale."""

    model: ModelResults
    levels: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    average: str
    top: str


def corruption_panels(suite: SuiteResults, chance: float | None) -> list[Panel]:
    """A panel for every scenario with severities that is no attack; severity 0 is the clean image. None where each has a single value."""
    metric = suite.metric
    data = {model: model.points(metric) for model in suite.models}
    levels = {(setting.scenario == "clean") or setting.severity for points in data.values() for setting in points}
    return _panels(suite, metric, data, _graded(suite, metric), chance) if len(levels) > 1 else []


def attack_panels(suite: SuiteResults) -> list[Panel]:
    """A panel of robust accuracy over the budget for every attack, with what that is; budget 0 is the clean accuracy.

    A suite without robust accuracies has the metric of its figures there, which is the accuracy on the attacked images. None where many
    models are attacked at a single budget: their lines would hide each other.
    """
    attacks, robust = _scenarios(suite, "attack"), any(_ATTACK_METRIC in model.metrics for model in suite.models)
    metric, clean = (_ATTACK_METRIC, "top1") if robust else (suite.metric, suite.metric)
    data = {model: {setting: one for setting, one in model.points(metric).items() if setting.scenario in attacks} for model in suite.models}
    for model, points in data.items():
        points.update({setting: point for setting, point in model.points(clean).items() if setting.scenario == "clean"})
    budgets = {setting.severity for points in data.values() for setting in points if setting.severity}
    return _panels(suite, metric, data, _with_severity(data.values())) if len(budgets) > 1 or len(data) <= _FEW else []


def heat_map(model: ModelResults) -> HeatMap | None:
    """The values of one model by scenario and severity; None where no scenario with severities has a value."""
    metric = model.metric()
    points = model.points(metric)
    alone = SuiteResults(model.suite, model.data, (model,))
    keys = _graded(alone, metric)
    if not any(point.known for setting, point in points.items() if setting[:2] in keys):
        return None
    levels = sorted_levels([setting.severity for setting in points if setting[:2] in keys])
    percent = alone.unit(metric) == "%"
    top = 100.0 if percent else axis_end([point.value for point in points.values()])
    families = [family_of(scenario) for scenario, _ in keys]
    rows = []
    for i, (key, family) in enumerate(zip(keys, families, strict=True)):
        title = scenario_title(key, keys)
        cells = [
            _heat_cell(points.get(ScenarioSetting(*key, level), NOT_EVALUATED), f"{title} · {level}", top, percent) for level in levels
        ]
        average = _error_cell(model, key[0]) if metric == "top1" else None
        rows.append(HeatRow(title, family if families.index(family) == i else "", families.count(family), tuple(cells), average))
    heading = "error" if any(row.average for row in rows) else ""
    return HeatMap(model, tuple(levels), tuple(rows), heading, "100" if percent else format_number(top))


def family_of(scenario: str) -> str:
    """The family of a corruption; `other` for a scenario without one."""
    entry = registry.entries("corruption").get(scenario)
    return entry.family if entry is not None and entry.family else "other"


def _graded(suite: SuiteResults, metric: str) -> list[tuple[str, str]]:
    """(scenario, params) with severities that are neither attacks nor certificates, by family."""
    others = _scenarios(suite, "attack", "certificate")
    keys = [key for key in _with_severity(model.points(metric) for model in suite.models) if key[0] not in others]
    order = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(keys, key=lambda key: order.get(family_of(key[0]), len(order)))


def _scenarios(suite: SuiteResults, *kinds: str) -> set[str]:
    """The scenarios of some kinds."""
    return {name for model in suite.models for name, kind in scenario_kinds(model.rows).items() if kind in kinds}


def _with_severity(several: Iterable[Mapping[ScenarioSetting, Point]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((setting.scenario, setting.params) for points in several for setting in points if setting.severity))


def _panels(
    suite: SuiteResults,
    metric: str,
    data: Mapping[ModelResults, Mapping[ScenarioSetting, Point]],
    keys: list[tuple[str, str]],
    chance: float | None = None,
) -> list[Panel]:
    unit = suite.unit(metric)
    values = [point.value for points in data.values() for point in points.values()]
    top = 100.0 if unit == "%" else axis_end(values)
    if not any(math.isfinite(value) for value in values):
        return []
    clean = [_ZERO] if any(setting.scenario == "clean" for points in data.values() for setting in points) else []
    panels = []
    for key in keys:
        levels = sorted_levels([setting.severity for points in data.values() for setting in points if setting[:2] == key])
        series = [
            Series(
                model.slot, model.name,
                (*(_clean_point(points) for _ in clean), *(points.get(ScenarioSetting(*key, level), NOT_EVALUATED) for level in levels)),
            )
            for model, points in data.items()
        ]  # fmt: skip
        family = "" if family_of(key[0]) == "other" else family_of(key[0])
        panels.append(
            panel(scenario_title(key, keys), [*clean, *levels], series, tag=family, axis=_axis(*key), top=top, unit=unit, chance=chance)
        )
    return panels


def _axis(scenario: str, params: str) -> str:
    """What the severities of a scenario are: `radius ε, linf`, `largest shift, px`; "" for a corruption's plain severity."""
    attack, corruption = registry.entries("attack").get(scenario), registry.entries("corruption").get(scenario)
    if corruption is not None:
        return "" if corruption.severity in ("", "severity") else with_spaces(corruption.severity)
    if attack is not None and attack.budget:
        return attack.budget
    given = parsed_parameters(params)
    if attack is None and "norm" not in given:
        return ""
    return ", ".join(part for part in ("radius ε", given.get("norm", "")) if part)


def _clean_point(points: Mapping[ScenarioSetting, Point]) -> Point:
    return next((point for setting, point in points.items() if setting.scenario == "clean"), NOT_EVALUATED)


def _heat_cell(point: Point, title: str, top: float, percent: bool) -> HeatCell:
    if point.kind == "absent":
        return HeatCell("", None, point.kind, "")
    unknown = {"failed": "✕", "undefined": point.status}.get(point.kind, "…")
    tip = f"{title}\n{point_text(point, '%' if percent else '')}"
    if not point.known:
        return HeatCell(unknown, None, point.kind, tip)
    return HeatCell(format_number(point.value), colour_step(point.value, top), point.kind, tip)


def _error_cell(model: ModelResults, scenario: str) -> HeatCell | None:
    point = model.average("corruption_error", scenario)
    if point is None:
        return None
    tip = f"{with_spaces(scenario)} · error over its severities\n{point_text(point)}"
    if not point.known:
        return HeatCell(point.status, None, point.kind, tip)
    return HeatCell(format_number(point.value), None, point.kind, tip, bar(point.value, point.low, point.high))
