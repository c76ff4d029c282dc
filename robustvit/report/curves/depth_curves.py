"""What the blocks of models do, over depth: of clean images, and of each way in which they are shifted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from robustvit.report.curves.transform_curves import CurveName
from robustvit.report.figures import Panel, Series, axis_end, panel
from robustvit.report.labels import sorted_levels
from robustvit.report.points import NOT_EVALUATED, Point, point_of
from robustvit.report.suite_results import ModelResults, SuiteResults, setting_of
from robustvit.results.parameters import parsed_parameters
from robustvit.spec import registry
from robustvit.spec.written.words import metric_name, with_spaces
from robustvit.statistics.estimates import on_curve

_BLOCK = "block"
_CLEAN = "clean"


class DepthCurves(NamedTuple):
    """The panels of one model, which have their curves in common. tag: its name."""

    tag: str
    names: tuple[CurveName, ...]
    panels: tuple[Panel, ...]


class _Quantity(NamedTuple):
    """What a panel shows: a metric, and its parameters but the block and the side."""

    metric: str
    parameters: str


def depth_panels(suite: SuiteResults) -> list[Panel]:
    """The panels of `depth_curves`, one after another, with the name of the model where there are several."""
    groups = depth_curves(suite)
    several = len(groups) > 1
    return [replace(one, title=f"{group.tag} · {one.title}") if several else one for group in groups for one in group.panels]


def depth_curves(suite: SuiteResults) -> list[DepthCurves]:
    """For every model with metrics of two blocks or more, a panel for each, with a curve for each kind of images."""
    groups = []
    for model in suite.models:
        found = {quantity: curves for quantity, curves in _curves(model).items() if max(map(len, curves.values())) > 1}
        kinds = sorted(dict.fromkeys(kind for curves in found.values() for kind in curves), key=lambda kind: kind != _CLEAN)
        names = tuple(CurveName(slot, kind) for slot, kind in enumerate(kinds))
        if names:
            groups.append(DepthCurves(model.name, names, tuple(_panel(*one, names) for one in found.items())))
    return groups


def _curves(model: ModelResults) -> dict[_Quantity, dict[str, dict[str, Point]]]:
    """The points by block of each kind of images, of each quantity, without blocks that the model does not have."""
    found: dict[_Quantity, dict[str, dict[str, Point]]] = {}
    for row in model.cells.itertuples():
        metric, _, rest = str(row.metric).partition("(")
        given, point = parsed_parameters(rest.removesuffix(")")), point_of(row)
        if not on_curve(str(row.metric)) or registry.lookup("metric", metric).curve != _BLOCK or not point.known or "drift" in given:
            continue
        block, setting = given.pop(_BLOCK), setting_of(row)
        one_sided = "side" not in {param.name for param in registry.lookup("metric", metric).params}
        shifted = given.pop("side", _CLEAN) != _CLEAN or one_sided
        quantity = _Quantity(metric, ", ".join(f"{name}={value}" for name, value in given.items()))
        kind = shift_name(setting.params, setting.severity) if shifted else _CLEAN
        found.setdefault(quantity, {}).setdefault(kind, {}).setdefault(block, point)
    return found


def shift_name(params: str, severity: str) -> str:
    """`gaussian noise 3`, `pgd eps=1/255`: what shifts the images of a cell."""
    given = parsed_parameters(params)
    shifts = [given[kind] for kind in ("corruption", "attack", "other") if given.get(kind, "None") != "None"]
    name, _, rest = (shifts or ["shifted"])[0].partition("(")
    eps = parsed_parameters(rest.removesuffix(")")).get("eps")
    return " ".join(filter(None, (with_spaces(name), severity, f"eps={eps}" if eps else "")))


def _panel(quantity: _Quantity, curves: Mapping[str, Mapping[str, Point]], names: tuple[CurveName, ...]) -> Panel:
    levels = sorted_levels([level for points in curves.values() for level in points])
    drawn = [one for one in names if one.name in curves]
    series = [Series(one.slot, one.name, tuple(curves[one.name].get(level, NOT_EVALUATED) for level in levels)) for one in drawn]
    known = [point for one in series for point in one.points if point.known]
    ends = [end for point in known for end in (point.value, point.low, point.high) if math.isfinite(end)]
    lowest, entry = min(ends), registry.lookup("metric", quantity.metric)
    title = " · ".join(filter(None, (metric_name(quantity.metric), quantity.parameters)))
    top = axis_end([max(ends), 0.0]) if max(ends) > 0 else 0.0
    bottom = -axis_end([-lowest]) if lowest < 0 else 0.0
    return panel(title, levels, series, axis="block", top=top, bottom=bottom, unit=entry.unit)
