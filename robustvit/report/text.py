"""The sentences of a report: a conclusion for each model, gradient masking warnings, and notices of what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from robustvit.report.columns import points_of_cells
from robustvit.report.curves.certified_curves import certified_results
from robustvit.report.labels import format_number, sorted_levels
from robustvit.report.points import point_of, stated_text
from robustvit.report.ranking import corruption_errors, mean_error, ranked_points, strongest_attacks, worst_cases_of, worst_status
from robustvit.report.suite_results import ModelResults, SuiteResults
from robustvit.results.editions import differences
from robustvit.results.gradient_masking import NEEDS, verdict_word
from robustvit.spec import registry
from robustvit.spec.grouping import grouped
from robustvit.spec.written.words import metric_name, with_spaces
from robustvit.statistics.estimates import of_scores

_MEASURED = 12  # measurements that the first sentences state
_LISTED = 6  # names that a notice lists before it counts the rest
_ORDER = ("failed", "partial")  # of cells
_FIRST = ("failed", "at chance", "not comparable", "partial", "marked")  # of notices; undefined metrics come last


@dataclass(frozen=True)
class Conclusion:
    """A sentence that summarizes one model's results, without the model's name, and caveats on relying on it."""

    model: ModelResults
    sentence: str
    caveat: str


@dataclass(frozen=True)
class Notice:
    """Something missing or doubtful: whose, what, why.

    status: failed, at chance, not comparable, partial, marked, or that of undefined metrics.
    """

    status: str
    suite: str
    name: str
    what: str
    reason: str


@dataclass(frozen=True)
class GradientWarning:
    """Why the robust accuracy of models may be overestimated. verdict: suspect or unchecked; settled_by: what the missing checks need."""

    verdict: str
    name: str
    why: str
    settled_by: str = ""


def gradient_warnings(suites: list[SuiteResults]) -> list[GradientWarning]:
    """The distinct gradient masking verdicts that are not `honest`, suspect ones first; models that share one are named together."""
    found = []
    for model in (one for suite in suites for one in suite.models):
        gradients = model.gradients()
        if verdict_word(gradients) not in ("", "honest"):
            why = gradients.partition(": ")[2]
            found.append(((verdict_word(gradients), why), model.name))
    warnings = [
        GradientWarning(verdict, _listed(list(dict.fromkeys(names))), why, _settled_by(why))
        for (verdict, why), names in grouped(found).items()
    ]
    return sorted(warnings, key=lambda warning: warning.verdict)


def verdict_words(suites: list[SuiteResults]) -> list[str]:
    """The verdicts on gradients that a report shows, each in one word."""
    words = {verdict_word(str(text)) for suite in suites for model in suite.models for text in model.rows["gradients"].unique()}
    return [word for word in ("honest", "suspect", "unchecked") if word in words]


def conclusion(suite: SuiteResults, model: ModelResults) -> Conclusion:
    """Summarizes the numbers of one model in a sentence, with caveats on relying on it."""
    clean = _clean(suite, model)
    topics = (clean, _corrupted(model), _attacked(model), _certified(suite, model), _measured(suite, model))
    parts = "; ".join(filter(None, topics)) or _averages(suite, model) or _first(suite, model) or _cells(suite, model) or "no results yet"
    sentence = f"{parts}." if clean else f"has {parts}."
    status, counts = worst_status(model.cells)
    caveats = ["Its weights are random, so these numbers are at chance level."] if model.random else []
    if verdict_word(model.gradients()) == "suspect":
        caveats.append("Its gradients are suspect (gradient masking): its robust accuracy may be overestimated.")
    if status != "complete":
        caveats.append(f"{counts}.")
    return Conclusion(model, sentence, " ".join(caveats))


def notices(suites: list[SuiteResults]) -> list[Notice]:
    """Everything failed, at chance, of another version, partial, marked or undefined, grouped by reason; failures first."""
    found = []
    for suite in suites:
        for model in suite.models:
            found += [*_marked(suite, model), *_of_cells(suite, model), *_of_averages(suite, model), *_undefined(suite, model)]
        found += _differing(suite)
    return sorted(_merged(found), key=lambda notice: _FIRST.index(notice.status) if notice.status in _FIRST else len(_FIRST))


def _settled_by(why: str) -> str:
    """What the checks need that an unchecked verdict names as missing; "" for any other."""
    missing = why.partition(" (")[0].split(", ")
    return "; ".join(f"{name}: {NEEDS[name]}" for name in missing if name in NEEDS)


def _clean(suite: SuiteResults, model: ModelResults) -> str:
    point = model.clean_point("top1")
    if point is None or not point.known:
        return ""
    n = int(model.cells["n"].max())
    return f"classifies {stated_text(point)} of {n:,} clean images of {suite.data} correctly"


def _corrupted(model: ModelResults) -> str:
    overall, errors = mean_error(model), corruption_errors(model)
    known = {name: point.value for name, point in errors.items() if point.known}
    hardest = "" if len(known) < 2 or model.random else _hardest(model, max(known, key=lambda name: known[name]))
    if overall is None or not overall.known or not errors:
        return f"highest error on {hardest}" if hardest else ""
    mean = f"mean corruption error {stated_text(overall)} over {len(errors)} corruption{'' if len(errors) == 1 else 's'}"
    return f"{mean}, highest on {hardest}" if hardest else mean


def _hardest(model: ModelResults, scenario: str) -> str:
    """`fog (45.0 % accuracy at severity 5)`, at the largest severity with a value."""
    points = [(setting.severity, point) for setting, point in model.points("top1").items() if setting.scenario == scenario and point.known]
    if not points:
        return with_spaces(scenario)
    largest = sorted_levels([severity for severity, _ in points])[-1]
    accuracy = next(point.value for severity, point in points if severity == largest)
    return f"{with_spaces(scenario)} ({format_number(accuracy)}\u00a0% accuracy at severity {largest})"


def _attacked(model: ModelResults) -> str:
    parts = [
        f"{stated_text(point)} under {with_spaces(attack)} {_budget(attack, budget)}"
        for (attack, budget), point in strongest_attacks(model).items()
        if point.known
    ]
    worst = [
        f"{stated_text(point)} in the worst case over attacks at {ball}" for ball, point in worst_cases_of(model).items() if point.known
    ]
    return f"robust accuracy {', '.join([*worst, *parts])}" if parts or worst else ""


def _budget(attack: str, level: str) -> str:
    """`at 4/255`; where the budget is no radius `with 2 patches`, `at a largest shift of 2 px`."""
    entry = registry.entries("attack").get(attack)
    if entry is not None and entry.severity == "patches":
        return f"with {level} patch{'' if level == '1' else 'es'}"
    name, _, unit = ("" if entry is None else entry.budget).partition(", ")
    return f"at a {name} of {level} {unit}".rstrip() if name else f"at {level}"


def _certified(suite: SuiteResults, model: ModelResults) -> str:
    parts = [f"{stated_text(one.point)} with {one.certificate} against {one.threat}" for one in certified_results(suite, model)]
    return f"certified accuracy {', '.join(dict.fromkeys(parts))}" if parts else ""


def _measured(suite: SuiteResults, model: ModelResults) -> str:
    measured = points_of_cells(suite, model, [metric for metric in model.cells["metric"].unique() if of_scores(metric)])
    known = [f"{column.title} {stated_text(point, column.unit)}" for column, point in measured.items() if point.known]
    more = f" and {len(known) - _MEASURED} measurements more" if len(known) > _MEASURED else ""
    return ", ".join(known[:_MEASURED]) + more


def _averages(suite: SuiteResults, model: ModelResults) -> str:
    """The averages of a suite that has neither clean images nor corruption errors."""
    points = {str(row.metric): point_of(row) for row in model.averages().itertuples() if row.status == "complete"}
    parts = [f"{metric_name(metric)} {stated_text(point, suite.unit(metric))}" for metric, point in points.items() if point.known]
    return f"{', '.join(parts)} on {suite.data}" if parts else ""


def _first(suite: SuiteResults, model: ModelResults) -> str:
    """The first number of the ranking, for a suite without clean images and averages."""
    known = ((column, point) for column, point in ranked_points(suite, model).items() if point.known)
    return next((f"{column.title} {stated_text(point, column.unit)} on {suite.data}" for column, point in known), "")


def _cells(suite: SuiteResults, model: ModelResults) -> str:
    """The range of the values of single cells, for a suite that has nothing else."""
    known = {setting: point for setting, point in model.points(suite.metric).items() if point.known}
    if not known:
        return ""
    unit, values = suite.unit(suite.metric), [point.value for point in known.values()]
    ends = dict.fromkeys(format_number(value) for value in (min(values), max(values)))
    cells = f"{len(known)} cell{'' if len(known) == 1 else 's'}"
    scenarios = _listed([with_spaces(name) for name in dict.fromkeys(setting.scenario for setting in known)])
    return f"{metric_name(suite.metric)} {' to '.join(ends)}\u00a0{unit}".rstrip() + f" over {cells} of {scenarios} on {suite.data}"


def _marked(suite: SuiteResults, model: ModelResults) -> Iterator[Notice]:
    """Complete numbers that have a reason to be doubted: on clean images, that they are at chance."""
    rows = model.rows[(model.rows["status"] == "complete") & (model.rows["reason"] != "")]
    for reason, part in rows.groupby("reason", sort=False):
        status = "at chance" if (part["scenario"] == "clean").any() else "marked"
        yield Notice(status, suite.name, model.name, _listed([metric_name(str(name)) for name in part["metric"].unique()]), str(reason))


def _differing(suite: SuiteResults) -> Iterator[Notice]:
    """The models under the same columns as others that were evaluated with other versions, or on other images under one name."""
    rows = [model.rows.assign(named=model.name) for model in suite.models if len(model.rows)]
    apart = differences(pd.concat(rows), ["named"]) if rows else {}
    for (name,), text in apart.items():
        yield Notice("not comparable", suite.name, name, text, "this suite has numbers of another version or content beside them")


def _of_cells(suite: SuiteResults, model: ModelResults) -> Iterator[Notice]:
    rows = model.cells[model.cells["status"].isin(_ORDER)].drop_duplicates("cell")
    for (status, reason), part in rows.groupby(["status", "reason"], sort=False):
        cells = [f"{with_spaces(str(row.scenario))} {row.severity}".strip() for row in part.itertuples()]
        yield Notice(str(status), suite.name, model.name, _listed(cells), str(reason))


def _of_averages(suite: SuiteResults, model: ModelResults) -> Iterator[Notice]:
    rows = model.rows[(model.rows["cell"] == "") & (model.rows["status"] == "partial")]
    for metric, part in rows.groupby("metric", sort=False):
        corruptions = [with_spaces(name) for name in part["scenario"] if name]
        of = f" of {_listed(corruptions)}" if corruptions else ""
        reason = part["reason"].iloc[0] if len(part) == 1 else "cells above are missing; an average over the others would mislead"
        yield Notice("partial", suite.name, model.name, f"{metric_name(str(metric))}{of}", str(reason))


def _undefined(suite: SuiteResults, model: ModelResults) -> Iterator[Notice]:
    rows = model.rows[~model.rows["status"].isin(("complete", *_ORDER))]
    for (status, reason), part in rows.groupby(["status", "reason"], sort=False):
        yield Notice(
            str(status), suite.name, model.name, _listed([metric_name(str(name)) for name in part["metric"].unique()]), str(reason)
        )


def _merged(found: list[Notice]) -> list[Notice]:
    """One notice for those that differ only in their model."""
    names = grouped(((notice.status, notice.suite, notice.what, notice.reason), notice.name) for notice in found)
    return [Notice(status, suite, _listed(list(dict.fromkeys(who))), what, reason) for (status, suite, what, reason), who in names.items()]


def _listed(names: list[str]) -> str:
    if len(names) <= _LISTED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED} more"
