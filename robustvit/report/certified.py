"""Certified accuracy over the size of a patch, or over an l2 radius: curves, and what the headline says of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from robustvit.report.charts import spaced
from robustvit.report.figures import Panel, Point, Series, in_order, panel
from robustvit.report.suite_results import Entrant, Place, Stage, point_of

_ASKED = re.compile(r"certified_accuracy\(patch=(?P<patch>\d+)\)|certified_accuracy_l2\(radius=(?P<radius>[\d./]+)\)")
_OVER = {"patch": "side of a patch, px", "radius": "radius in l2"}
_ABSENT = Point(math.nan, status="absent")


class Curve(NamedTuple):
    """What a certificate proves at each level, as its metric's label has it; `0` is the smoothed model's own accuracy. over: patch or radius."""

    over: str
    points: dict[str, Point]


def certified_panels(stage: Stage) -> list[Panel]:
    """A panel for every certificate that was asked of several levels, whoever answered it; certificates that differ in anything stand apart."""
    data = {entrant: curves(entrant) for entrant in stage.entrants}
    places = list(dict.fromkeys(place for found in data.values() for place in found))
    return [
        _panel(place, places, data) for place in places if any(len(found[place].points) > 1 for found in data.values() if place in found)
    ]


def curves(entrant: Entrant) -> dict[Place, Curve]:
    """What each of an entrant's certificates proves."""
    found: dict[Place, Curve] = {}
    own = entrant.points("top1")
    for row in entrant.cells.itertuples():
        asked = _ASKED.fullmatch(str(row.metric))
        if asked is None or asked.lastgroup is None or str(row.status) == "undefined":
            continue
        place = Place(str(row.scenario), str(row.params), str(row.severity))
        start = {"0": own[place]} if place in own else {}
        found.setdefault(place, Curve(asked.lastgroup, start)).points.setdefault(asked[asked.lastgroup], point_of(row))
    return found


def certified_words(stage: Stage, entrant: Entrant) -> list[tuple[str, str, Point]]:
    """(certificate, what it holds against, how often), for each of an entrant's certificates.

    What it holds against is the largest level at which anybody on the stage proves something, so that all are told the same.
    """
    told = []
    everybody = [curves(other) for other in stage.entrants]
    for place, curve in curves(entrant).items():
        proved = [
            level
            for found in everybody
            if place in found
            for level, point in found[place].points.items()
            if level != "0" and point.value > 0
        ]
        level = (in_order(proved or list(curve.points)) or [""])[-1]
        point = curve.points.get(level)
        if point is not None and point.known:
            against = f"patches of {level}\u00a0px" if curve.over == "patch" else f"changes of {level} in l2"
            told.append((" ".join(word for word in (spaced(place.scenario), place.severity) if word), against, point))
    return told


def _panel(place: Place, places: list[Place], data: Mapping[Entrant, Mapping[Place, Curve]]) -> Panel:
    found = {entrant: curve for entrant, many in data.items() if (curve := many.get(place)) is not None}
    levels = in_order(list(dict.fromkeys(level for curve in found.values() for level in curve.points)))
    series = [
        Series(entrant.slot, entrant.name, tuple(curve.points.get(level, _ABSENT) for level in levels)) for entrant, curve in found.items()
    ]
    over = next(iter(found.values())).over
    several = sum(other.scenario == place.scenario for other in places) > 1
    told = ", ".join(word for word in (place.severity, place.params) if word)
    return panel(f"{spaced(place.scenario)} ({told})" if several and told else spaced(place.scenario), levels, series, tag=_OVER[over])
