"""The leaderboard table of the report: per model its clean number, averages, strongest attacks, other data sets and status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from robustvit.report.columns import Column, column_of, points_of_cells
from robustvit.report.figures import Bar, axis_end, bar
from robustvit.report.labels import format_number, metric_tip, scenario_title, sorted_levels
from robustvit.report.points import Point, point_of, point_text
from robustvit.report.suite_results import ModelResults, SuiteResults
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.paired_best import PairedTests, best_of
from robustvit.results.parameters import attack_name
from robustvit.results.ranks.rank_intervals import Rank
from robustvit.spec import registry
from robustvit.spec.written.words import metric_name, with_spaces
from robustvit.statistics.estimates import of_measurements, on_curve
from robustvit.statistics.intervals import mean_of

_MEANS = ("mean_corruption_error", "mean_err_15")
_CLEAN = "clean"
_NO_RANK = Rank()
_LABEL_FREE = frozenset({"confidence", "pred"})  # columns of the records that do not depend on the labels


@dataclass(frozen=True)
class RankingEntry:
    """A number of the ranking: text, interval and bar, or why there is none. sort: its sort key, "" for last.

    kind: as a Point's. gradients: for a robust accuracy, the gradient masking verdict in one word. doubted: whether its note says why it
    is marked with a question mark. rank: among the models of its suite, `1=` where it is shared, "" without a test.
    """

    text: str
    interval: str = ""
    bar: Bar | None = None
    sort: str = ""
    kind: str = "complete"
    note: str = ""
    best: bool = False
    gradients: str = ""
    doubted: bool = False
    rank: str = ""


@dataclass(frozen=True)
class RankingRow:
    """One model on one suite. n: samples of its largest cell; status: the worst of its cells, `counts` says of how many."""

    model: ModelResults
    n: int
    entries: tuple[RankingEntry, ...]
    status: str
    counts: str


@dataclass(frozen=True)
class Ranking:
    """The rows of all suites under common columns."""

    columns: tuple[Column, ...]
    rows: tuple[RankingRow, ...]
    statuses: tuple[str, ...]

    @property
    def marked(self) -> bool:
        """Whether any number has a rank."""
        return any(entry.best or entry.rank for row in self.rows for entry in row.entries)


def ranking(suites: Sequence[SuiteResults], tests: PairedTests | None = None) -> Ranking:
    """The rows of all suites under the columns that any of them has a number for.

    tests: of the leaderboard; they rank the numbers of a suite, and the one that is surely the first is the best.
    """
    numbers = {(suite, model): ranked_points(suite, model) for suite in suites for model in suite.models}
    columns = _columns(numbers.values())
    ends = {column: _axis_end(column, [points[column] for points in numbers.values() if column in points]) for column in columns}
    ranked = {} if tests is None else dict(_ranked(numbers, columns, tests))
    rows = []
    for (suite, model), points in numbers.items():
        entries = tuple(_entry(points.get(column), column, ends[column], *ranked.get((suite, model, column), ())) for column in columns)
        n = int(model.cells["n"].max()) if len(model.cells) else 0
        rows.append(RankingRow(model, n, entries, *worst_status(model.cells)))
    return Ranking(tuple(columns), tuple(rows), tuple(dict.fromkeys(row.status for row in rows)))


def worst_status(cells: pd.DataFrame) -> tuple[str, str]:
    """The worst status among cells, and how many have it: `("partial", "2 of 9 cells partial")`."""
    by_cell = cells.drop_duplicates("cell")["status"]
    counts = {status: int((by_cell == status).sum()) for status in ("failed", "partial")}
    parts = [f"{count} of {len(by_cell)} cells {status}" for status, count in counts.items() if count]
    worst = next((status for status, count in counts.items() if count), "complete")
    return worst, ", ".join(parts) or f"{len(by_cell)} cell{'' if len(by_cell) == 1 else 's'}"


def ranked_points(suite: SuiteResults, model: ModelResults) -> dict[Column, Point]:
    """All numbers that the ranking shows of a model: clean and averages first, then single cells, attacks and other data sets."""
    clean, data_sets = _clean(suite, model), _data_sets(suite, model)
    shown = suite.metric if clean or data_sets else ""
    several = [metric for metric in model.metrics if metric.startswith("certified_accuracy") or of_measurements(metric)]
    wanted = (suite.single_cell_metrics - {shown}).union(several)
    cells = points_of_cells(suite, model, {metric for metric in wanted if not on_curve(metric)})
    return clean | _mean_error(model) | _averages(model) | cells | _attacks(model) | data_sets


def mean_error(model: ModelResults) -> Point | None:
    """The mean corruption error: the suite's own metric where it is defined, else the mean over corruptions, with that of their ends."""
    for metric in _MEANS:
        point = model.average(metric)
        if point is not None and point.kind != "undefined":
            return point
    errors = corruption_errors(model)
    if not errors:
        return None
    if any(one.status != "complete" for one in errors.values()):
        return Point(math.nan, status="partial", note="some corruptions are incomplete")
    rows = tuple(row for one in errors.values() for row in one.rows)
    return replace(Point(*mean_of([(one.value, one.low, one.high) for one in errors.values()])), rows=rows)


def corruption_errors(model: ModelResults) -> dict[str, Point]:
    """The error of every corruption over its severities."""
    rows = model.rows[(model.rows["metric"] == "corruption_error") & (model.rows["cell"] == "")]
    return {str(row.scenario): point_of(row) for row in rows.itertuples()}


def strongest_attacks(model: ModelResults, metric: str = "robust_accuracy") -> dict[tuple[str, str], Point]:
    """A robust accuracy at the largest budget of every attack, by (attack, budget); the lowest where parameters differ.

    An attack through the host is another: it lends its number to none that failed.
    """
    points = model.points(metric)
    strongest: dict[tuple[str, str], Point] = {}
    for key in dict.fromkeys(setting[:2] for setting in points):
        by_budget = {setting.severity: point for setting, point in points.items() if setting[:2] == key}
        attack = attack_name(key[0], key[1])
        largest = sorted_levels(list(by_budget))[-1]
        point = by_budget[largest]
        strongest[attack, largest] = min(strongest.get((attack, largest), point), point, key=_known_first)
    return strongest


def _known_first(point: Point) -> float:
    """The value, by which points are compared; one without a value, as of a failed cell, comes last."""
    return point.value if point.known else math.inf


def worst_cases_of(model: ModelResults) -> dict[str, Point]:
    """The worst case over attacks in each ball, by the ball: `linf 4/255`."""
    rows = model.rows[(model.rows["metric"] == "worst_case_accuracy") & (model.rows["cell"] == "")]
    return {str(row.scenario): point_of(row) for row in rows.itertuples()}


def _clean(suite: SuiteResults, model: ModelResults) -> dict[Column, Point]:
    metric = suite.metric
    point = model.clean_point(metric)
    if point is None:
        return {}
    title = f"clean {metric_name(metric)}"
    return {Column(_CLEAN, title, suite.unit(metric), _higher(model, metric), tip=metric_tip(metric)): point}


def _mean_error(model: ModelResults) -> dict[Column, Point]:
    error = mean_error(model)
    return (
        {} if error is None else {Column("mean_error", "mean corruption error", "%", False, tip=metric_tip("mean_corruption_error")): error}
    )


def _averages(model: ModelResults) -> dict[Column, Point]:
    return {column_of(row): point_of(row) for row in model.averages().itertuples() if row.metric not in _MEANS}


def _attacks(model: ModelResults) -> dict[Column, Point]:
    """Accuracies under attack; of a random model what the attack found under its own draw stands beside."""
    least = metric_tip("worst_case_accuracy")
    worst = {
        Column(f"worst case {ball}", f"worst case {ball}", "%", True, tip=least): point for ball, point in worst_cases_of(model).items()
    }
    return worst | {
        Column(f"{attack} {budget}{beside}", f"{with_spaces(attack)} {budget}{beside}", "%", True, tip=metric_tip(metric)): point
        for metric, beside in (("robust_accuracy", ""), ("robust_accuracy_same_draw", ", same draw"))
        for (attack, budget), point in strongest_attacks(model, metric).items()
    }


def _data_sets(suite: SuiteResults, model: ModelResults) -> dict[Column, Point]:
    """The numbers of cells without a severity that are neither clean nor attacked, such as other data sets; a column for each."""
    metric = suite.metric
    keys = list(dict.fromkeys(setting[:2] for other in suite.models for setting in other.without_severity(metric)))
    return {
        replace(column_of(row, f"{scenario_title(setting[:2], keys)} {metric_name(metric)}"), uses_labels=_uses_labels(metric)): point_of(
            row
        )
        for setting, row in model.without_severity(metric).items()
    }


def _uses_labels(metric: str) -> bool:
    entry = registry.entries("metric").get(metric.partition("(")[0])
    return entry is None or not entry.needs or not set(entry.needs) <= _LABEL_FREE


def _columns(numbers: Iterable[Mapping[Column, Point]]) -> list[Column]:
    """Columns in the order first seen, without those that are undefined for every model."""
    every = [(column, point) for points in numbers for column, point in points.items()]
    defined = {column for column, point in every if point.kind != "undefined"}
    return [column for column in dict.fromkeys(column for column, _ in every) if column in defined]


def _ranked(
    numbers: Mapping[tuple[SuiteResults, ModelResults], Mapping[Column, Point]], columns: Sequence[Column], tests: PairedTests
) -> Iterator[tuple[tuple[SuiteResults, ModelResults, Column], tuple[Rank, bool]]]:
    """The ranks of the numbers of each suite, and whether one is the best."""
    for suite in dict.fromkeys(suite for suite, _ in numbers):
        for column in (one for one in columns if one.marked):
            points = {model: own[column] for (where, model), own in numbers.items() if where is suite and column in own}
            known = {model: model.rows.loc[list(point.rows)] for model, point in points.items() if point.rows}
            ranks = tests.ranks(list(known.values()))
            best = best_of(ranks)
            yield from (((suite, model, column), (rank, at == best)) for at, (model, rank) in enumerate(zip(known, ranks, strict=True)))


def _entry(point: Point | None, column: Column, end: float, rank: Rank = _NO_RANK, best: bool = False) -> RankingEntry:
    if point is None:
        return RankingEntry("", note="not evaluated", kind="absent")
    if not point.known:
        return RankingEntry(point.status, kind=point.kind, note=point.note)
    interval = "" if math.isnan(point.low) else f"{format_number(point.low)} – {format_number(point.high)}"
    ranked = f"\nrank {rank.span} of {rank.among}" if rank.rank else ""
    return RankingEntry(
        format_number(point.value), interval, bar(point.value, point.low, point.high, end), repr(point.value), point.kind,
        f"{column.title}\n{point_text(point, column.unit)}{ranked}", best, verdict_word(point.gradients), point.doubted, rank.text,
    )  # fmt: skip


def _axis_end(column: Column, points: Sequence[Point]) -> float:
    values = [value for point in points if point.known for value in (point.value, point.high) if not math.isnan(value)]
    return 100.0 if column.unit == "%" and max(values, default=0.0) <= 100 else axis_end(values)


def _higher(model: ModelResults, metric: str) -> bool:
    return bool(model.rows.loc[model.rows["metric"] == metric, "higher_is_better"].iloc[0])
