"""Curves and heat maps from the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustvit.report.figures import Bar, Panel, Point, Series, bar, ceiling, in_order, number, panel, step, told
from robustvit.report.suite_results import Entrant, Place, Stage
from robustvit.spec import registry

FAMILIES = ("noise", "blur", "weather", "digital")
_ATTACK_METRIC = "robust_accuracy"
_ZERO = "0"  # the severity of clean images
_ABSENT = Point(math.nan, status="absent")


@dataclass(frozen=True)
class Tile:
    """A number of a heat map. step: its colour, None without a number; status marks it; tip is what the pointer gets; bar: its interval."""

    text: str
    step: int | None
    status: str
    tip: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Band:
    """A row of a heat map. family is set on the first row of each, with the number of rows it spans."""

    title: str
    family: str
    span: int
    tiles: tuple[Tile, ...]
    average: Tile | None


@dataclass(frozen=True)
class HeatMap:
    """Scenario × severity of one entrant."""

    entrant: Entrant
    levels: tuple[str, ...]
    bands: tuple[Band, ...]
    average: str
    top: str


def corruption_panels(stage: Stage, guess: float | None) -> list[Panel]:
    """A panel of every scenario with severities, attacks aside; the clean number stands at severity 0. None where each has one number."""
    metric = stage.metric
    data = {entrant: entrant.points(metric) for entrant in stage.entrants}
    panels = _panels(stage, metric, data, _graded(stage, metric), guess)
    several = len({(place.scenario == "clean") or place.severity for points in data.values() for place in points}) > 1
    return panels if several else []


def attack_panels(stage: Stage) -> list[Panel]:
    """A panel of robust accuracy over the budget for every attack; the clean accuracy stands at budget 0."""
    data = {entrant: entrant.points(_ATTACK_METRIC) for entrant in stage.entrants}
    for entrant, points in data.items():
        points.update({place: one for place, one in entrant.points("top1").items() if place.scenario == "clean"})
    return _panels(stage, _ATTACK_METRIC, data, _ordered(data.values()))


def heat_map(entrant: Entrant) -> HeatMap | None:
    """The numbers of one entrant by scenario and severity; None where no scenario with severities has a number."""
    metric = entrant.metric()
    points = entrant.points(metric)
    graded = _graded(Stage(entrant.suite, entrant.data, (entrant,)), metric)
    if not any(point.known for place, point in points.items() if (place.scenario, place.params) in graded):
        return None
    levels = in_order([place.severity for place in points if (place.scenario, place.params) in graded])
    percent = Stage(entrant.suite, entrant.data, (entrant,)).unit(metric) == "%"
    top = 100.0 if percent else ceiling([one.value for one in points.values()])
    families = [family_of(scenario) for scenario, _ in graded]
    bands = [
        Band(
            title=titled(key, graded), family=family if families.index(family) == i else "", span=families.count(family),
            tiles=tuple(_tile(points.get(Place(*key, level), _ABSENT), f"{titled(key, graded)} · {level}", top, percent) for level in levels),
            average=_average_tile(entrant, key[0]) if metric == "top1" else None,
        )
        for i, (key, family) in enumerate(zip(graded, families, strict=True))
    ]  # fmt: skip
    return HeatMap(
        entrant, tuple(levels), tuple(bands), "error" if any(band.average for band in bands) else "", number(top) if not percent else "100"
    )


def family_of(scenario: str) -> str:
    """The family of a corruption, `other` for what belongs to none."""
    entry = registry.entries("corruption").get(scenario)
    return entry.family if entry is not None and entry.family else "other"


def spaced(name: str) -> str:
    """A plug-in's name as words."""
    return name.replace("_", " ")


def titled(key: tuple[str, str], keys: Iterable[tuple[str, str]]) -> str:
    """The scenario, with its parameters where it stands there more than once."""
    scenario, params = key
    several = sum(other == scenario for other, _ in keys) > 1
    return f"{spaced(scenario)} ({params})" if several and params else spaced(scenario)


def _graded(stage: Stage, metric: str) -> list[tuple[str, str]]:
    """(scenario, params) with severities that are neither attacks nor certificates, by family."""
    apart = {place.scenario for entrant in stage.entrants for place in entrant.points(_ATTACK_METRIC)} | set(
        registry.entries("certificate")
    )
    keys = [key for key in _ordered(entrant.points(metric) for entrant in stage.entrants) if key[0] not in apart]
    order = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(keys, key=lambda key: order.get(family_of(key[0]), len(order)))


def _ordered(many: Iterable[Mapping[Place, Point]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((place.scenario, place.params) for points in many for place in points if place.severity))


def _panels(
    stage: Stage, metric: str, data: Mapping[Entrant, Mapping[Place, Point]], keys: list[tuple[str, str]], guess: float | None = None
) -> list[Panel]:
    unit = stage.unit(metric)
    values = [point.value for points in data.values() for point in points.values()]
    top = 100.0 if unit == "%" else ceiling(values)
    made: list[Panel] = []
    if not any(math.isfinite(value) for value in values):
        return made
    for key in keys:
        levels = in_order([place.severity for points in data.values() for place in points if (place.scenario, place.params) == key])
        clean = any(place.scenario == "clean" for points in data.values() for place in points)
        series = [
            Series(entrant.slot, entrant.name, (*_clean(points, clean), *(points.get(Place(*key, level), _ABSENT) for level in levels)))
            for entrant, points in data.items()
        ]
        family = "" if family_of(key[0]) == "other" else family_of(key[0])
        made.append(panel(titled(key, keys), [*([_ZERO] if clean else []), *levels], series, tag=family, top=top, unit=unit, guess=guess))
    return made


def _clean(points: Mapping[Place, Point], wanted: bool) -> list[Point]:
    return [next((one for place, one in points.items() if place.scenario == "clean"), _ABSENT)] if wanted else []


def _tile(point: Point, title: str, top: float, percent: bool) -> Tile:
    if point.status == "absent":
        return Tile("", None, "absent", "")
    text = number(point.value) if point.known else {"failed": "✕", "undefined": "n/a"}.get(point.status, "…")
    return Tile(text, step(point.value, top) if point.known else None, point.status, f"{title}\n{told(point, '%' if percent else '')}")


def _average_tile(entrant: Entrant, scenario: str) -> Tile | None:
    point = entrant.average("corruption_error", scenario)
    if point is None:
        return None
    tip = f"{spaced(scenario)} · error over its severities\n{told(point)}"
    if not point.known:
        return Tile(point.status, None, point.status, tip)
    return Tile(number(point.value), None, point.status, tip, bar(point.value, point.low, point.high))
