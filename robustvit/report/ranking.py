"""The leaderboard as the page shows it: a row for each entrant, its clean number, its averages, the strongest attacks, its status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustvit.report.charts import spaced, titled
from robustvit.report.figures import Bar, Point, bar, ceiling, in_order, number, told
from robustvit.report.suite_results import Entrant, Stage, mean, point_of
from robustvit.results.gradient_masking import verdict_word
from robustvit.spec import registry

ERRORS = ("mean_error", "mce_alexnet", "mean_corruption_error", "mean_err_15", "mean_err_19")  # small only where many answers are right
_MEANS = ("mean_corruption_error", "mean_err_15")
_CLEAN = "clean"
_SAID = frozenset({"confidence", "pred"})  # columns that know of no right answer


@dataclass(frozen=True)
class Column:
    """A column of numbers. judged: whether they come of right and wrong answers, and not of what a model says alone, as its confidence does."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    judged: bool = True

    @property
    def about(self) -> str:
        """What stands under the title."""
        return " · ".join(part for part in (self.unit, "higher is better" if self.higher_is_better else "lower is better") if part)

    @property
    def marked(self) -> bool:
        """Whether its best is marked. Where lower is better only an error's is: gaps are small, too, where a model answers nothing rightly."""
        return self.judged and (self.higher_is_better or self.key in ERRORS)


@dataclass(frozen=True)
class Entry:
    """A number of the leaderboard: text, interval, bar, or the reason why there is none. sort is "" where it goes last.

    gradients: of what an attack left, the word of the verdict on the gradients it followed.
    """

    text: str
    interval: str = ""
    bar: Bar | None = None
    sort: str = ""
    status: str = "complete"
    note: str = ""
    best: bool = False
    gradients: str = ""


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

    @property
    def marked(self) -> bool:
        """Whether any number is marked as the best."""
        return any(entry.best for row in self.standings for entry in row.entries)


def board_of(stages: Sequence[Stage]) -> Board:
    """The rows of all stages under the columns that any of them has a number for."""
    numbers = {(stage, entrant): numbers_of(stage, entrant) for stage in stages for entrant in stage.entrants}
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


def numbers_of(stage: Stage, entrant: Entrant) -> dict[Column, Point]:
    """All that the leaderboard shows of an entrant: what its answers come to, then what each set of pictures gave."""
    clean, sets = _clean_of(stage, entrant), _sets_of(stage, entrant)
    told = stage.metric if clean or sets else ""
    alone = {_column(row): point_of(row) for metric, row in (entrant.alone() | entrant.measured()).items() if metric != told}
    return clean | _error_of(entrant) | _averages_of(entrant) | alone | _proved_of(stage, entrant) | _attacks_of(entrant) | sets


def mean_error(entrant: Entrant) -> Point | None:
    """The corruption error averaged over the corruptions: as the suite's metric says, else their plain mean, without an interval."""
    for metric in _MEANS:
        point = entrant.average(metric)
        if point is not None and point.status != "undefined":
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


def _clean_of(stage: Stage, entrant: Entrant) -> dict[Column, Point]:
    metric = stage.metric
    clean = [one for place, one in entrant.points(metric).items() if place.scenario == "clean"]
    return {Column(_CLEAN, f"clean {metric}", stage.unit(metric), _higher(entrant, metric)): one for one in clean[:1]}


def _error_of(entrant: Entrant) -> dict[Column, Point]:
    overall = mean_error(entrant)
    return {} if overall is None else {Column("mean_error", "mean corruption error", "%", False): overall}


def _averages_of(entrant: Entrant) -> dict[Column, Point]:
    averages = entrant.rows[(entrant.rows["cell"] == "") & (entrant.rows["scenario"] == "") & (entrant.rows["metric"] != "")]
    return {_column(row): point_of(row) for row in averages.itertuples() if row.metric not in _MEANS}


def _attacks_of(entrant: Entrant) -> dict[Column, Point]:
    return {
        Column(f"{attack} {budget}", f"{spaced(attack)} {budget}", "%", True): point
        for (attack, budget), point in strongest_attacks(entrant).items()
    }


def _proved_of(stage: Stage, entrant: Entrant) -> dict[Column, Point]:
    """Certified accuracies of one of several certificates, which no metric's name alone tells apart."""
    alone = entrant.alone()
    rows = [row for row in entrant.cells.itertuples() if str(row.metric).startswith("certified_accuracy") and str(row.metric) not in alone]
    keys = list(dict.fromkeys((str(row.scenario), str(row.params)) for row in rows))
    names = [
        " ".join(word for word in (titled((str(row.scenario), str(row.params)), keys), str(row.severity), str(row.metric)) if word)
        for row in rows
    ]
    return {_column(row, name): point_of(row) for row, name in zip(rows, names, strict=True)}


def _sets_of(stage: Stage, entrant: Entrant) -> dict[Column, Point]:
    """The numbers of cells with a scenario of their own: neither clean, nor of a severity, nor attacked."""
    places = [place for other in stage.entrants for place in other.own(stage.metric)]
    keys = list(dict.fromkeys((place.scenario, place.params) for place in places))
    return {
        replace(_column(row, f"{titled((place.scenario, place.params), keys)} {row.metric}"), judged=_judged(stage.metric)): point_of(row)
        for place, row in entrant.own(stage.metric).items()
    }


def _judged(metric: str) -> bool:
    entry = registry.entries("metric").get(metric.partition("(")[0])
    return entry is None or not entry.needs or not set(entry.needs) <= _SAID


def _column(row: Any, title: str = "") -> Column:
    return Column(title or str(row.metric), title or str(row.metric), str(row.unit), bool(row.higher_is_better))


def _columns(found: Iterable[dict[Column, Point]]) -> list[Column]:
    """Columns with a number, or with something missing that ought to be there, in the order first seen."""
    every = list(found)
    columns = dict.fromkeys(column for numbers in every for column in numbers)
    return [column for column in columns if any(numbers[column].status != "undefined" for numbers in every if column in numbers)]


def _entry(point: Point | None, column: Column, top: float, rivals: Sequence[Point | None]) -> Entry:
    if point is None:
        return Entry("", note="not asked", status="absent")
    if not point.known:
        return Entry(point.status, status=point.status, note=point.note)
    interval = "" if math.isnan(point.low) else f"{number(point.low)} – {number(point.high)}"
    known = [rival.value for rival in rivals if rival is not None and _sound(rival)]
    best = column.marked and len(known) > 1 and _sound(point) and point.value == (max if column.higher_is_better else min)(known)
    return Entry(
        number(point.value), interval, bar(point.value, point.low, point.high, top), repr(point.value), point.status,
        f"{column.title}\n{told(point, column.unit)}", best, verdict_word(point.gradients),
    )  # fmt: skip


def _sound(point: Point) -> bool:
    """Whether a number may be the best of all: it is complete, and no gradient that it rests on is suspect."""
    return point.known and point.status == "complete" and verdict_word(point.gradients) != "suspect"


def _top(column: Column, points: Sequence[Point]) -> float:
    values = [value for point in points if point.known for value in (point.value, point.high) if not math.isnan(value)]
    return 100.0 if column.unit == "%" and max(values, default=0.0) <= 100 else ceiling(values)


def _higher(entrant: Entrant, metric: str) -> bool:
    return bool(entrant.rows.loc[entrant.rows["metric"] == metric, "higher_is_better"].iloc[0])


def _n(entrant: Entrant) -> int:
    return int(entrant.cells["n"].max()) if len(entrant.cells) else 0
