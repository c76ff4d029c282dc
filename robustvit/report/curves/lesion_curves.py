"""Accuracy of models that lack or exchange some of their parts, over how many: orders of blocks, blocks, channels, attention heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from robustvit.report.figures import Panel, Series, panel
from robustvit.report.labels import scenario_title, sorted_levels
from robustvit.report.points import NOT_EVALUATED, Point, point_of
from robustvit.report.suite_results import ModelResults, ScenarioSetting, SuiteResults, setting_of


class _Axis(NamedTuple):
    """The parameter of a metric that a curve is over, its default ("" for none), and what it counts."""

    parameter: str
    default: str
    title: str


_AXES = {
    "order_accuracy": _Axis("distance", "", "Kendall distance"),
    "removed_blocks_accuracy": _Axis("count", "1", "how many"),
    "subset_accuracy": _Axis("size", "1", "how many"),
    "removed_heads_accuracy": _Axis("share", "0.5", "share removed"),
}
_LABEL = re.compile(r"(?P<metric>\w+)(?:\((?P<parameter>\w+)=(?P<level>[\d.]+)\))?")
Curves = Mapping[tuple[ScenarioSetting, str], dict[str, Point]]


def lesion_panels(suite: SuiteResults, chance: float | None) -> list[Panel]:
    """A panel for every analysis and metric with several levels in any model; analyses that differ in a parameter have a panel each."""
    curves = {model: lesion_curves(model) for model in suite.models}
    keys = list(dict.fromkeys(key for found in curves.values() for key in found))
    return [_panel(key, keys, curves, chance) for key in keys if any(len(found[key]) > 1 for found in curves.values() if key in found)]


def lesion_curves(model: ModelResults) -> dict[tuple[ScenarioSetting, str], dict[str, Point]]:
    """The points of each of a model's curves by level, keyed by setting and metric, without levels at which it is undefined."""
    found: dict[tuple[ScenarioSetting, str], dict[str, Point]] = {}
    for row in model.cells.itertuples():
        label, point = _LABEL.fullmatch(str(row.metric)), point_of(row)
        axis = _AXES.get(label["metric"]) if label is not None else None
        if label is None or axis is None or point.kind == "undefined" or label["parameter"] not in (None, axis.parameter):
            continue
        if level := label["level"] or axis.default:
            found.setdefault((setting_of(row), label["metric"]), {}).setdefault(level, point)
    return found


def _panel(
    key: tuple[ScenarioSetting, str], keys: list[tuple[ScenarioSetting, str]], curves: Mapping[ModelResults, Curves], chance: float | None
) -> Panel:
    found = {model: points for model, own in curves.items() if (points := own.get(key)) is not None}
    levels = sorted_levels([level for points in found.values() for level in points])
    series = [
        Series(model.slot, model.name, tuple(points.get(level, NOT_EVALUATED) for level in levels)) for model, points in found.items()
    ]
    title = scenario_title(_named(key[0]), list(dict.fromkeys(_named(other) for other, _ in keys)))
    return panel(title, levels, series, axis=_AXES[key[1]].title, chance=chance)


def _named(setting: ScenarioSetting) -> tuple[str, str]:
    return setting.scenario, ", ".join(part for part in (setting.severity, setting.params) if part)
