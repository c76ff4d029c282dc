"""The leaderboard as the page shows it: a row for each entrant, its clean number, its averages, the strongest attacks, its status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from robustvit.figures import Bar, Point, bar, ceiling, in_order, number, told
from robustvit.report.charts import spaced
from robustvit.report.entrants import Entrant, Stage, mean, point_of

_MEANS = ("mean_corruption_error", "mean_err_15")
_CLEAN, _HARDEST = "clean", "hardest"


@dataclass(frozen=True)
class Column:
    """A column of numbers. best: the direction in which a first click sorts."""

    key: str
    title: str
    unit: str
    higher_is_better: bool

    @property
    def about(self) -> str:
        """What stands under the title."""
        return " · ".join(part for part in (self.unit, "higher is better" if self.higher_is_better else "lower is better") if part)


@dataclass(frozen=True)
class Entry:
    """A number of the leaderboard: text, interval, bar, or the reason why there is none. sort is "" where it goes last."""

    text: str
    interval: str = ""
    bar: Bar | None = None
    sort: str = ""
    status: str = "complete"
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard."""

    entrant: Entrant
    n: int
    entries: tuple[Entry, ...]
    status: str
    told: str


@dataclass(frozen=True)
class Board:
    """The leaderboard of all stages."""

    columns: tuple[Column, ...]
    standings: tuple[Standing, ...]
    statuses: tuple[str, ...]


def board_of(stages: Sequence[Stage]) -> Board:
    """The rows of all stages under the columns that any of them has a number for."""
    numbers = {(stage, entrant): _numbers(stage, entrant) for stage in stages for entrant in stage.entrants}
    columns = _columns(numbers.values())
    tops = {column: _top(column, [found[column] for found in numbers.values() if column in found]) for column in columns}
    standings = []
    for (stage, entrant), found in numbers.items():
        rivals = [other for (where, _), other in numbers.items() if where is stage]
        entries = tuple(_entry(found.get(column), column, tops[column], [rival.get(column) for rival in rivals]) for column in columns)
        status, told_status = status_of(entrant.cells)
        standings.append(Standing(entrant, _n(entrant), entries, status, told_status))
    return Board(tuple(columns), tuple(standings), tuple(dict.fromkeys(one.status for one in standings)))


def status_of(cells: pd.DataFrame) -> tuple[str, str]:
    """The worst status among an entrant's cells, and how many are so."""
    by_cell = cells.drop_duplicates("cell")["status"]
    counts = {status: int((by_cell == status).sum()) for status in ("failed", "partial")}
    parts = [f"{count} of {len(by_cell)} cells {status}" for status, count in counts.items() if count]
    worst = next((status for status, count in counts.items() if count), "complete")
    return worst, ", ".join(parts) or f"{len(by_cell)} cell{'' if len(by_cell) == 1 else 's'}"


def mean_error(entrant: Entrant) -> Point | None:
    """The corruption error averaged over the corruptions: as the suite's metric says, else their plain mean, without an interval."""
    for metric in _MEANS:
        point = entrant.average(metric)
        if point is not None and point.status != "n/a":
            return point
    errors = corruption_errors(entrant)
    if not errors:
        return None
    value = mean(errors.values())
    return Point(
        value, status="partial" if math.isnan(value) else "complete", note="some corruptions are not complete" if math.isnan(value) else ""
    )


def corruption_errors(entrant: Entrant) -> dict[str, Point]:
    """The error of every corruption over its severities."""
    rows = entrant.rows[(entrant.rows["metric"] == "corruption_error") & (entrant.rows["cell"] == "")]
    return {str(row.scenario): point_of(row) for row in rows.itertuples()}


def strongest_attacks(entrant: Entrant) -> dict[tuple[str, str], Point]:
    """Robust accuracy at the largest budget of every attack, by (attack, budget)."""
    points = entrant.points("robust_accuracy")
    found: dict[tuple[str, str], Point] = {}
    for attack, params in dict.fromkeys((place.scenario, place.params) for place in points):
        here = {place.severity: one for place, one in points.items() if (place.scenario, place.params) == (attack, params)}
        largest = in_order(list(here))[-1]
        found[attack, largest] = min(found.get((attack, largest), here[largest]), here[largest], key=lambda one: one.value)
    return found


def _numbers(stage: Stage, entrant: Entrant) -> dict[Column, Point]:
    found: dict[Column, Point] = {}
    metric = stage.metric
    clean = [one for place, one in entrant.points(metric).items() if place.scenario == "clean"]
    if clean:
        found[Column(_CLEAN, f"clean {metric}", stage.unit(metric), _higher(entrant, metric))] = clean[0]
    overall = mean_error(entrant)
    if overall is not None:
        found[Column("mean_error", "mean corruption error", "%", False)] = overall
    averages = entrant.rows[(entrant.rows["cell"] == "") & (entrant.rows["scenario"] == "") & (entrant.rows["metric"] != "")]
    for row in averages.itertuples():
        if row.metric not in _MEANS:
            column = Column(str(row.metric), str(row.metric), str(row.unit), bool(row.higher_is_better))
            found[column] = point_of(row)
    for metric, row in entrant.measured().items():
        found[Column(metric, metric, str(row.unit), bool(row.higher_is_better))] = point_of(row)
    for (attack, budget), point in strongest_attacks(entrant).items():
        found[Column(f"{attack} {budget}", f"{spaced(attack)} {budget}", "%", True)] = point
    return found


def _columns(found: Iterable[dict[Column, Point]]) -> list[Column]:
    """Columns with a number, or with something missing that ought to be there, in the order first seen."""
    every = list(found)
    columns = dict.fromkeys(column for numbers in every for column in numbers)
    return [column for column in columns if any(numbers[column].status != "n/a" for numbers in every if column in numbers)]


def _entry(point: Point | None, column: Column, top: float, rivals: Sequence[Point | None]) -> Entry:
    if point is None:
        return Entry("", note="not asked", status="absent")
    if not point.known:
        return Entry(point.status, status=point.status, note=point.note)
    interval = "" if math.isnan(point.low) else f"{number(point.low)} – {number(point.high)}"
    known = [rival.value for rival in rivals if rival is not None and rival.known and rival.status == "complete"]
    best = len(known) > 1 and point.status == "complete" and point.value == (max if column.higher_is_better else min)(known)
    return Entry(
        number(point.value), interval, bar(point.value, point.low, point.high, top), repr(point.value), point.status,
        f"{column.title}\n{told(point, column.unit)}", best,
    )  # fmt: skip


def _top(column: Column, points: Sequence[Point]) -> float:
    values = [value for point in points if point.known for value in (point.value, point.high) if not math.isnan(value)]
    return 100.0 if column.unit == "%" and max(values, default=0.0) <= 100 else ceiling(values)


def _higher(entrant: Entrant, metric: str) -> bool:
    return bool(entrant.rows.loc[entrant.rows["metric"] == metric, "higher_is_better"].iloc[0])


def _n(entrant: Entrant) -> int:
    return int(entrant.cells["n"].max()) if len(entrant.cells) else 0
