"""The usual tables of papers: models are rows, and corruptions, severities, attacks or data sets are columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from robustvit.errors import UsageError
from robustvit.results.pages import by_scenario, model_keys, models_of
from robustvit.results.paired_best import PairedTests
from robustvit.results.parameters import crafted_elsewhere
from robustvit.results.scenario_kinds import scenario_kinds
from robustvit.results.summary import ShownNumber, scenario_names
from robustvit.results.table_formats import Page, check_choice
from robustvit.spec import registry
from robustvit.spec.grouping import grouped
from robustvit.spec.written.words import metric_heading, with_spaces


class _Entry(NamedTuple):
    """A number of a table: the corruption that names its row beside the model, its column, the heading above, and its column in words."""

    row: str
    column: str
    number: ShownNumber
    group: str = ""
    head: str = ""

    @property
    def shown(self) -> str:
        """Its column in words."""
        return self.head or self.column


_Chosen = Iterator[tuple[str, list[_Entry]]]


class PaperTables(NamedTuple):
    """Pages, and their numbers in tidy form: suite, metric, the model, corruption, column, value, low, high, n, status."""

    pages: list[Page]
    tidy: pd.DataFrame


def paper_tables(board: pd.DataFrame, per: str, *, every: bool = False, tests: PairedTests | None = None) -> PaperTables:
    """A page for each suite and metric of a leaderboard, with a row for each model.

    per: `corruption`, averages first, then each corruption over its severities; `severity`, a row for each model and corruption; `attack`,
    the clean accuracy, then each attack and budget; `data`, each data set, clean. every: all metrics of the leaderboard in place of the
    usual ones, which are errors by corruption, robust accuracy by attack, and else top-1, where there are any. tests: of the
    leaderboard, which find the best number of each column. Raises UsageError for another `per`, and where the leaderboard has nothing of
    that kind.
    """
    check_choice("--per", per, PER)
    names = [*model_keys(board), *(["corruption"] if per == "severity" else [])]
    found = [
        _page(f"{suite} · {metric_heading(metric)}", [(_key(one, names), one) for one in entries], names, tests)
        for suite, part in board.groupby("suite", sort=False)
        for metric, entries in _CHOSEN[per](part, every)
        if entries
    ]
    if not found:
        raise UsageError(_nothing(board, per))
    return PaperTables([page for page, _ in found], pd.concat([tidy for _, tidy in found], ignore_index=True))


def _nothing(board: pd.DataFrame, per: str) -> str:
    """Why a leaderboard has no such table: for want of such scenarios, or because the metric is none of theirs."""
    kind = {"severity": "corruption of several severities", "data": "clean scenario"}.get(per, per)
    own = {"data": board["scenario"] == "clean"}.get(per, _of_kind(board, "corruption" if per == "severity" else per))
    metrics = ", ".join(dict.fromkeys(metric for metric in board["metric"] if metric))
    if own.any() or (metrics and (board["cell"] == "").all()):
        return f"--per {per}: there are no values of {metrics} by {per}; {_FITTING[per]}"
    return f"--per {per}: the leaderboard has no {kind}. --per takes {', '.join(PER)}."


def _key(one: _Entry, names: Sequence[str]) -> tuple[str, ...]:
    first = one.number.rows.iloc[0]
    return tuple(one.row if name == "corruption" else str(first[name]) for name in names)


def _page(
    title: str, entries: Sequence[tuple[tuple[str, ...], _Entry]], names: Sequence[str], tests: PairedTests | None
) -> tuple[Page, pd.DataFrame]:
    """A page of numbers by the names of their rows, and the same in tidy form."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for key, one in entries:
        rows.setdefault(key, {})[one.shown] = one.number.text
    table = pd.DataFrame([dict(zip(names, key, strict=True)) | texts for key, texts in rows.items()]).fillna("")
    suite, metric = (str(entries[-1][1].number.rows[name].iloc[0]) for name in ("suite", "metric"))
    about = [{"suite": suite, "metric": metric, **dict(zip(names, key, strict=True)), "column": one.column} for key, one in entries]
    tidy = pd.DataFrame([words | one.number.facts for words, (_, one) in zip(about, entries, strict=True)])
    directions = {one.shown: one.number.higher_is_better for _, one in entries}
    best = frozenset() if tests is None else frozenset(_best(entries, list(rows), tests))
    return Page(title, table, len(names), directions, {one.shown: one.group for _, one in entries if one.group}, best), tidy


def _best(
    entries: Sequence[tuple[tuple[str, ...], _Entry]], keys: Sequence[tuple[str, ...]], tests: PairedTests
) -> Iterator[tuple[int, str]]:
    """The best numbers of a page, by row and column: of a table by severity for each corruption."""
    for (column, _), own in grouped(((one.shown, one.row), (key, one)) for key, one in entries).items():
        found = tests.best([one.number.rows for _, one in own])
        if found is not None:
            yield keys.index(own[found][0]), column


def _usual(rows: pd.DataFrame, usual: Sequence[str], every: bool) -> list[str]:
    """The metrics of rows, in their order; the usual ones alone where there are any."""
    metrics = [metric for metric in rows["metric"].unique() if metric]
    return [metric for metric in metrics if every or metric in usual or not set(usual) & set(metrics)]


def _single(rows: pd.DataFrame, title: str = "") -> Iterator[ShownNumber]:
    return (ShownNumber(title, rows.loc[[index]]) for index in rows.index)


def _of_kind(part: pd.DataFrame, kind: str) -> pd.Series:
    """Which rows are of scenarios of a kind."""
    return part["scenario"].map(scenario_kinds(part)) == kind


def _family(one: ShownNumber) -> str:
    """The family of a corruption, "" where its name is not registered."""
    entry = registry.entries("corruption").get(str(one.rows["scenario"].iloc[0]))
    return "" if entry is None else entry.family


def _per_corruption(part: pd.DataFrame, every: bool) -> _Chosen:
    rows = part[_of_kind(part, "corruption")]
    averages = part[(part["scenario"] == "") & (part["cell"] == "") & (part["metric"] != "")]
    errors = [name for name, entry in registry.entries("metric").items() if entry.over == "corruption"]
    for metric in _usual(rows, errors, every):
        means = [_Entry("", one.metric, one, "average", metric_heading(one.metric)) for one in _single(averages)]
        own = [one for _, some in models_of(rows[rows["metric"] == metric]) for one in by_scenario(some)]
        yield metric, means + [_Entry("", one.title, one, _family(one), with_spaces(one.title)) for one in own]


def _per_severity(part: pd.DataFrame, every: bool) -> _Chosen:
    rows = part[_of_kind(part, "corruption") & (part["cell"] != "") & (part["severity"] != "")]
    for metric in _usual(rows, ("top1",), every):
        own = rows[rows["metric"] == metric]
        names = scenario_names(own.assign(severity=""))
        yield metric, [_Entry(name, severity, one) for name, severity, one in zip(names, own["severity"], _single(own), strict=True)]


def _per_attack(part: pd.DataFrame, every: bool) -> _Chosen:
    rows = part[_of_kind(part, "attack") & (part["cell"] != "") & ~part["params"].map(crafted_elsewhere)]
    for metric in _usual(rows, [name for name in rows["metric"].unique() if name.startswith("robust_accuracy")], every):
        own = [one for _, some in models_of(rows[rows["metric"] == metric]) for one in by_scenario(some)]
        clean = part[(part["scenario"] == "clean") & (part["metric"] == ("top1" if metric.startswith("robust_accuracy") else metric))]
        first = [_Entry("", "clean", one, "clean") for one in _single(clean)]
        entries = [_Entry("", one.title, one, with_spaces(str(one.rows["scenario"].iloc[0])), with_spaces(one.title)) for one in own]
        yield metric, first + entries


def _per_data(part: pd.DataFrame, every: bool) -> _Chosen:
    rows = part[(part["scenario"] == "clean") & (part["cell"] != "")]
    for metric in _usual(rows, ("top1",), every):
        own = rows[rows["metric"] == metric]
        yield metric, [_Entry("", str(one.rows["data"].iloc[0]), one) for one in _single(own)]


_CHOSEN: Mapping[str, Callable[[pd.DataFrame, bool], _Chosen]] = {
    "corruption": _per_corruption, "severity": _per_severity, "attack": _per_attack, "data": _per_data,
}  # fmt: skip
PER = tuple(_CHOSEN)
_FITTING = {
    "corruption": "--metric corruption_error, ce_alexnet, top1 or another metric of single cells has some.",
    "severity": "--metric top1, brier or another metric of single cells has some.",
    "attack": "--metric robust_accuracy, top1 or another metric of single cells has some.",
    "data": "--metric top1, brier or another metric of single cells has some.",
}  # the metrics that fit a table, for messages
