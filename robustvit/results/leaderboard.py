"""The leaderboard: every number that a store's Records answer, one tidy row for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustvit.errors import BadParameter, MetricUndefined, MissingCells, UnknownName
from robustvit.records.cells import Answer, Asked, answer, asked, opened
from robustvit.records.records import Question
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import Attempts
from robustvit.results.clean_predictions import COLUMN, CleanAnswers
from robustvit.results.gradient_masking import verdicts
from robustvit.spec.ablations import Ablations
from robustvit.spec.spec import parse, revive
from robustvit.statistics.cell_means import CellMeans, Values, joined, values_of
from robustvit.statistics.estimates import Estimate, Metric, judge, metric
from robustvit.statistics.intervals import Resampler, Resamples

COLUMNS = {
    "model": "str", "transforms": "str", "suite": "str", "data": "str", "scenario": "str", "severity": "str", "metric": "str",
    "value": "float64", "low": "float64", "high": "float64", "n": "int64", "status": "str", "reason": "str", "unit": "str",
    "higher_is_better": "bool", "seconds": "float64", "cell": "str", "params": "str", "seed": "int64", "precision": "str",
    "view": "str", "base": "str", "model_view": "str", "storage": "str", "weights": "str", "source": "str", "version": "str", "environment": "str", "repro": "str", "gradients": "str",
}  # fmt: skip

GROUP = ("model", "transforms", "suite", "base", "seed", "precision", "model_view", "storage")  # what an average never mixes
_JUDGED = frozenset({"label", "pred", "confidence", "nll", "margin", "brier", "rank", "top5"})
_VOTES = frozenset({"label", "vote", "votes_first", "votes_second", "votes_label", "votes", "tokens", "patch_held"})
_EXPECTED = {  # columns of a cell that has no rows yet
    "corruption": _JUDGED,
    "attack": _JUDGED | {"linf", "l2", "l0", "attacked"},
    "certificate": _VOTES,
}


@dataclass(frozen=True)
class _Unknown:
    """A metric of a suite that is not installed here, and what was said about it."""

    label: str
    reason: str


@dataclass
class _Heard:
    """One cell and what is kept of its rows once they are judged: their columns, and of the metrics that averages are of, by name, the values, or why there are none."""

    asked: Asked
    answer: Answer
    columns: list[str]
    values: dict[str, Values] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reader:
    """What a cell's rows are read from, and what is made of them on the way."""

    store: Store
    attempts: Attempts
    clean: CleanAnswers
    resampler: Resampler


@dataclass
class _Group:
    """The cells of one model on one suite, which averages are taken over."""

    heard: list[_Heard] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def leaderboard(
    store: Store | Path | str,
    *,
    suite: str | None = None,
    models: Iterable[str] | None = None,
    metrics: Iterable[object] | None = None,
) -> pd.DataFrame:
    """One row per number: every metric of every cell, then what is averaged over a model's cells.

    metrics: names or `{name: {parameter: value}}`; default, those of each suite as it was last run. Any registered metric can be asked of
    any store. value, low and high (a 95 % interval) are in `unit`; n is the metric's denominator. status: `complete`; `partial`, some
    samples (a value over the n there are) or some cells (no value) are missing; `failed`; `n/a`, the metric has no value here. `reason`
    says why. A metric that does not fit a kind of cell has no row there. seconds are a cell's, on each of its rows; an average's are the
    sum over its cells. `repro` is the command that makes the row again. `gradients` stands beside every attack: `honest …`, `suspect: …`
    or `unchecked: …`, what all attacks on that model in the store, other suites' too, say of its gradients (see robustvit.results.gradient_masking). The same
    store gives the same table every time.
    Raises StoreError for a store, suite or model that is not there, UnknownName or BadParameter for a metric.
    """
    place = opened(store)
    own = None if metrics is None else [metric(node) for node in metrics]
    chosen = None if models is None else list(models)
    lists = _suite_metrics(place) if own is None else {}
    reader = _Reader(place, Attempts(place), CleanAnswers(place, chosen), Resampler())
    resampler, attempts = reader.resampler, reader.attempts
    groups: dict[tuple[Any, ...], _Group] = {}
    for one in asked(place, suite, chosen):
        attempts.expect(one.question)
        wanted = own if own is not None else lists[one.question.suite]
        group = groups.setdefault(tuple(getattr(one.question, name) for name in GROUP), _Group())
        group.rows += _cell_rows(reader, one, wanted, group)
    rows = []
    for key, group in groups.items():
        rows += group.rows + list(_group_rows(group, own if own is not None else lists[key[GROUP.index("suite")]], resampler))
    judged = {cell: str(found) for cell, found in verdicts(attempts, chosen).items()}
    board = pd.DataFrame(rows, columns=list(COLUMNS)).assign(gradients=[judged.get(row["cell"], "") for row in rows])
    board = _answered_once(board.astype(COLUMNS))
    board.attrs.update(_about(place, groups.values()))
    return board


def read_csv(path: Path | str) -> pd.DataFrame:
    """A leaderboard that was written as CSV. (Plain `pandas.read_csv` takes the status `n/a` for a missing value.)"""
    text = [name for name, kind in COLUMNS.items() if kind == "str"]
    found: pd.DataFrame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(text, "str"))
    return found.fillna(dict.fromkeys(text, "")).astype(COLUMNS)


def _answered_once(board: pd.DataFrame) -> pd.DataFrame:
    """Without the n/a that a suite's metric has on one of its data sets where it has a value on another, or was said to have none for the same reason."""
    keys = [*(name for name in GROUP if name != "base"), "metric"]
    hollow = (board["status"] == "n/a") & (board["cell"] == "") & (board["scenario"] == "")
    answered = pd.MultiIndex.from_frame(board.loc[board["status"] != "n/a", keys])
    told = pd.MultiIndex.from_frame(board[keys]).isin(answered) | board.duplicated([*keys, "status", "reason"])
    left: pd.DataFrame = board[~(hollow & told)].reset_index(drop=True)
    return left


def _suite_metrics(store: Store) -> dict[str, list[Metric | _Unknown]]:
    return {manifest.suite.name: [_metric_of(node) for node in manifest.suite.metrics] for manifest in store.manifests()}


def _metric_of(node: Any) -> Metric | _Unknown:
    spec = parse(revive(node))[0]
    try:
        return metric(spec)
    except (UnknownName, BadParameter) as error:
        return _Unknown(str(spec), str(error))


def _cell_rows(reader: _Reader, one: Asked, wanted: Sequence[Metric | _Unknown], group: _Group) -> Iterator[dict[str, Any]]:
    resampler, names = reader.resampler, _columns(wanted)
    found = answer(reader.store, one.question, None if names is None else sorted({*names, *reader.attempts.columns(one.question)}))
    reader.attempts.hear(one.question, found.rows)
    found = _beside_clean(reader.clean, one.question, found, wanted)
    rows = found.rows
    rows.attrs["radius"] = one.question.severity if one.question.kind == "attack" else ""
    rows.attrs["columns"] = one.data.columns  # the logits that the data's first reading takes, where it does not take all
    rows.attrs.update(_votes_of(reader.store, one) if one.question.kind == "certificate" and len(rows) else {})
    columns = list(rows.columns) if len(rows) else [*_EXPECTED.get(one.question.kind, ()), *rows.columns]
    heard = _Heard(one, found, columns)
    group.heard.append(heard)
    resamples = resampler(rows["sample"].tolist())
    for of in _averaged(wanted):
        heard.silent[of.entry.name] = heard.answer.reason or _lacks(of, [heard])
        if heard.answer.status == "complete" and of.applies(columns):
            try:
                heard.values[of.entry.name] = values_of(of, rows, resamples, resampler)
            except MetricUndefined as error:  # then the averages that need it say so
                heard.silent[of.entry.name] = str(error)
    fitting: list[Metric | None] = [a for a in wanted if isinstance(a, Metric) and a.entry.over == "cell" and a.applies(columns)]
    for ask in fitting or ([None] if heard.answer.status == "failed" else []):  # a failure is told even where no metric fits
        yield _cell_row(heard, ask, resamples, resampler)
    heard.answer = replace(heard.answer, rows=rows.iloc[:0])


def _votes_of(store: Store, one: Asked) -> dict[str, Any]:
    """What the votes of a certificate are of: the ablations, where it is by ablations, and the patch at which counting stopped."""
    told = store.describe(one.question.cell)
    scenario = revive(told["scenario"])
    try:
        ablations = Ablations.of_scenario(scenario, tuple(told["view"]["size"]))
    except BadParameter:  # the picture has no room for them: the cell has failed and says so
        ablations = None
    return {"ablations": ablations, "stop_at": scenario.get("stop_at")}


def _beside_clean(clean: CleanAnswers, question: Question, found: Answer, wanted: Sequence[Metric | _Unknown]) -> Answer:
    """A cell's answer with what the model said of the clean pictures, where some metric asks for that."""
    if not any(COLUMN in ask.entry.needs for ask in wanted if isinstance(ask, Metric)):
        return found
    return replace(found, rows=clean.joined(question, found.rows))


def _columns(wanted: Sequence[Metric | _Unknown]) -> list[str] | None:
    """The columns that metrics need, or None (all of them) where one does not say."""
    metrics = [*(ask for ask in wanted if isinstance(ask, Metric)), *_averaged(wanted)]
    if any(not ask.entry.needs for ask in metrics if ask.entry.over == "cell"):
        return None
    return sorted({"label", "pred"}.union(*(ask.entry.needs for ask in metrics)))


def _averaged(wanted: Sequence[Metric | _Unknown]) -> list[Metric]:
    """The metrics of cells that the wanted averages are of."""
    return [metric(name) for name in dict.fromkeys(a.entry.of for a in wanted if isinstance(a, Metric) and a.entry.over != "cell")]


def _cell_row(heard: _Heard, ask: Metric | None, resamples: Resamples, resampler: Resampler) -> dict[str, Any]:
    question, rows = heard.asked.question, heard.answer.rows
    row = _row([heard], ask) | {name: getattr(question, name) for name in ("scenario", "severity", "cell", "params")}
    if ask is None or len(rows) == 0:
        return row
    try:
        return row | judge(ask, rows, resamples, resampler)._asdict()
    except MetricUndefined as error:
        return row | {"status": "n/a", "reason": str(error)}


def _group_rows(group: _Group, wanted: Sequence[Metric | _Unknown], resampler: Resampler) -> Iterator[dict[str, Any]]:
    means = {of.entry.name: _means(group, of, resampler) for of in _averaged(wanted)}
    for ask in wanted:
        if isinstance(ask, _Unknown):
            yield _row(group.heard, None) | {"metric": ask.label, "status": "n/a", "reason": ask.reason}
        elif ask.entry.over == "cell":
            lacking = _lacks(ask, group.heard)
            if lacking:
                yield _row(group.heard, ask) | {"status": "n/a", "reason": lacking}
        elif ask.entry.over == "corruption":
            graded = _graded(group, ask)
            for name in dict.fromkeys(heard.asked.question.scenario for heard in graded):
                part = [heard for heard in graded if heard.asked.question.scenario == name]
                yield _average(part, ask, means[ask.entry.of], name) | {"scenario": name}
        elif ask.entry.over == "model":
            yield _average(_graded(group, ask) or group.heard, ask, means[ask.entry.of])


def _graded(group: _Group, ask: Metric) -> list[_Heard]:
    """The corruptions with severities that an average may count."""
    asked_of = ((heard, heard.asked.question) for heard in group.heard)
    return [heard for heard, one in asked_of if one.kind == "corruption" and one.severity and _counts(ask, heard)]


def _counts(ask: Metric, heard: _Heard) -> bool:
    """Whether an average may count a cell: clips, whose frames are compared with each other, stand apart from pictures that have labels."""
    clips = heard.asked.data.clips  # which stores of earlier versions do not tell
    return clips is None or clips == ("against" in ask.entry.needs)


def _lacks(ask: Metric, part: Sequence[_Heard]) -> str:
    """Why none of some cells could be asked a metric; nothing where one could."""
    lacks: list[str] = min((ask.lacks(heard.columns) for heard in part if heard.columns), key=len, default=[])
    if not lacks:
        return ""
    hint = " Run with --keep logits." if "logits" in lacks else " Ask `clean`, too, of the same model and data." if COLUMN in lacks else ""
    if any(name.startswith("fact_") for name in lacks):
        hint = f" Data tells such facts where it has them: see `robustvit list metrics {ask.entry.name}` and `robustvit data`."
    return f"no cell has the column{'s' if len(lacks) > 1 else ''} {', '.join(lacks)}.{hint}"


def _means(group: _Group, of: Metric, resampler: Resampler) -> CellMeans:
    first = group.heard[0].asked
    cells: dict[tuple[str, str], Values | None] = {}
    why: dict[tuple[str, str], str] = {}
    repeated = set()
    for heard in group.heard:
        if heard.asked.question.kind == "corruption" and _counts(of, heard):
            repeated |= {heard.asked.variant} & cells.keys()
            cells[heard.asked.variant] = heard.values.get(of.entry.name)
            why[heard.asked.variant] = heard.silent.get(of.entry.name, "")
    classes = first.data.classes
    return CellMeans(first.question.suite, first.question.base, classes, cells, resampler, frozenset(repeated), why=why)


def _average(part: Sequence[_Heard], ask: Metric, means: CellMeans, *which: str) -> dict[str, Any]:
    row = _row(part, ask) | {"status": "complete", "reason": ""}
    try:
        answered: Estimate = joined(ask, means, *which)
    except MissingCells as error:
        return row | {"status": "partial", "reason": str(error)}
    except MetricUndefined as error:
        return row | {"status": "n/a", "reason": str(error)}
    return row | answered._asdict()


def _row(part: Sequence[_Heard], ask: Metric | None) -> dict[str, Any]:
    """A row about some cells, without a number yet."""
    question = part[0].asked.question
    answers = [heard.answer for heard in part]
    return {
        **{name: getattr(question, name) for name in GROUP}, **{name: _listed(part, name) for name in ("data", "view", "source")}, "scenario": "", "severity": "", "cell": "", "params": "",
        "metric": ask.label if ask else "", "unit": ask.entry.unit if ask else "", "higher_is_better": not ask or ask.entry.higher_is_better,
        "value": np.nan, "low": np.nan, "high": np.nan, "n": 0, "status": answers[0].status, "reason": answers[0].reason,
        "seconds": round(sum(one.seconds for one in answers), 6), "weights": part[0].asked.weights, "repro": question.command,
        "version": ", ".join(sorted(frozenset[str]().union(*(one.versions for one in answers)))),
        "environment": ", ".join(sorted(frozenset[str]().union(*(one.environments for one in answers)))),
    }  # fmt: skip


def _listed(part: Sequence[_Heard], name: str) -> str:
    """What the questions of some cells say under a name, each thing once."""
    return ", ".join(dict.fromkeys(str(getattr(heard.asked.question, name)) for heard in part))


def _about(store: Store, groups: Iterable[_Group]) -> dict[str, Any]:
    """What exports tell besides the numbers: the models' cards and the views, by their labels."""
    cards: dict[str, Any] = {card.fingerprint: asdict(card) for manifest in store.manifests() for card in manifest.models.values()}
    models, views = {}, {}
    for question in (heard.asked.question for group in groups for heard in group.heard):
        known = question.view in views and question.model in models
        if not known and store.knows(question.cell):
            cell: Mapping[str, Any] = store.describe(question.cell)
            models[question.model] = cards.get(str(cell.get("weights")), {})
            views[question.view] = cell.get("view", {})
    return {"models": models, "views": views}
