"""Certified accuracy over the size of a patch or over an l2 radius: its curves, and its summary at the largest level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from robustvit.report.figures import Panel, Series, panel
from robustvit.report.labels import scenario_title, sorted_levels
from robustvit.report.points import NOT_EVALUATED, Point, point_of
from robustvit.report.suite_results import ModelResults, ScenarioSetting, SuiteResults
from robustvit.spec.written.words import with_spaces

_METRIC = re.compile(r"certified_accuracy\(patch=(?P<patch>\d+)\)|certified_accuracy_l2\(radius=(?P<radius>[\d./]+)\)")
_AXIS = {"patch": "side of a patch, px", "radius": "radius in l2"}


class CertifiedCurve(NamedTuple):
    """Certified accuracy of one certificate by level; level `0` is the smoothed model's own accuracy. over: `patch` or `radius`."""

    over: str
    points: dict[str, Point]


class CertifiedResult(NamedTuple):
    """Certified accuracy of one certificate at one level. threat: what it holds against, as `patches of 5 px`."""

    certificate: str
    threat: str
    point: Point


def certified_panels(suite: SuiteResults) -> list[Panel]:
    """A panel for every certificate with several levels in any model; certificates that differ in a parameter have a panel each."""
    curves = {model: certified_curves(model) for model in suite.models}
    settings = list(dict.fromkeys(setting for by_setting in curves.values() for setting in by_setting))
    return [
        _panel(setting, settings, curves)
        for setting in settings
        if any(len(by_setting[setting].points) > 1 for by_setting in curves.values() if setting in by_setting)
    ]


def certified_curves(model: ModelResults) -> dict[ScenarioSetting, CertifiedCurve]:
    """The curve of each of a model's certificates, without levels at which it is undefined."""
    found: dict[ScenarioSetting, CertifiedCurve] = {}
    smoothed = model.points("top1")
    for row in model.rows_of([metric for metric in model.metrics if _METRIC.fullmatch(metric)]):
        metric, point = _METRIC.fullmatch(str(row.metric)), point_of(row)
        if metric is None or metric.lastgroup is None or point.kind == "undefined":
            continue
        setting = ScenarioSetting(str(row.scenario), str(row.params), str(row.severity))
        start = {"0": smoothed[setting]} if setting in smoothed else {}
        found.setdefault(setting, CertifiedCurve(metric.lastgroup, start)).points.setdefault(metric[metric.lastgroup], point)
    return found


def certified_results(suite: SuiteResults, model: ModelResults) -> list[CertifiedResult]:
    """The certified accuracy of each of a model's certificates at the largest level where any model of the suite is above zero."""
    found = []
    everywhere = [certified_curves(other) for other in suite.models]
    for setting, curve in certified_curves(model).items():
        curves = [by_setting[setting] for by_setting in everywhere if setting in by_setting]
        positive = [level for other in curves for level, point in other.points.items() if level != "0" and point.value > 0]
        level = (sorted_levels(positive or list(curve.points)) or [""])[-1]
        point = curve.points.get(level)
        if point is not None and point.known:
            threat = f"patches of {level}\u00a0px" if curve.over == "patch" else f"changes of {level} in l2"
            found.append(CertifiedResult(f"{with_spaces(setting.scenario)} {setting.severity}".strip(), threat, point))
    return found


def _panel(
    setting: ScenarioSetting, settings: list[ScenarioSetting], curves: Mapping[ModelResults, Mapping[ScenarioSetting, CertifiedCurve]]
) -> Panel:
    found = {model: curve for model, by_setting in curves.items() if (curve := by_setting.get(setting)) is not None}
    levels = sorted_levels([level for curve in found.values() for level in curve.points])
    series = [
        Series(model.slot, model.name, tuple(curve.points.get(level, NOT_EVALUATED) for level in levels)) for model, curve in found.items()
    ]
    over = next(iter(found.values())).over
    details = {other: ", ".join(part for part in (other.severity, other.params) if part) for other in settings}
    title = scenario_title((setting.scenario, details[setting]), [(other.scenario, details[other]) for other in settings])
    return panel(title, levels, series, axis=_AXIS[over])
