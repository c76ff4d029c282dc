"""The leaderboard: every number that can be computed from a store's Records, one tidy row for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pandas as pd

from robustvit.errors import BadParameter, CodeRefused, UnknownName
from robustvit.records.cells import RowReader, StoredCell, open_store, stored_cells
from robustvit.records.manifest import ModelFacts
from robustvit.records.questions import model_names
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import COLUMNS as GRADIENT_COLUMNS
from robustvit.results.cell_scores import MetricList, Score, ScoredCell, UnknownMetric
from robustvit.results.editions import edition_texts
from robustvit.results.gradient_masking import verdicts
from robustvit.results.scoring.cell_errors import CellErrors
from robustvit.results.scoring.group_scores import GROUP, score_groups
from robustvit.results.table_formats import without_quotes
from robustvit.spec.code_names import refusing_code
from robustvit.spec.spec import parse, revive
from robustvit.spec.view import View
from robustvit.statistics.estimates import Metric, resolve_metric


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """One row of the leaderboard. scenario, severity, cell and params are empty for an average over a model's cells."""

    model: str
    transforms: str
    suite: str
    data: str
    scenario: str = ""
    severity: str = ""
    metric: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    status: str
    reason: str
    unit: str
    higher_is_better: bool
    seconds: float
    cell: str = ""
    params: str = ""
    seed: int
    precision: str
    view: str
    base: str
    model_view: str
    storage: str
    weights: str
    source: str
    version: str
    environment: str
    repro: str
    gradients: str = ""
    plugins: str = ""
    contents: str = ""


_DEFAULTS = {one.name: one.default for one in fields(BoardRow) if one.default is not MISSING}
COLUMNS = {one.name: {"float": "float64", "int": "int64"}.get(str(one.type), str(one.type)) for one in fields(BoardRow)}


@dataclass(frozen=True)
class Leaderboard:
    """The rows of a leaderboard in COLUMNS, one for each number, with the cards of the models and the views, by label.

    store: what it was made from, None where that is no store. errors: which samples are misclassified, by suite and cell, as far as
    averages needed it.
    """

    rows: pd.DataFrame
    cards: Mapping[str, ModelFacts] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    store: Store | None = None
    errors: Mapping[tuple[str, str], CellErrors] = field(default_factory=dict)

    def measured(self) -> list[BoardRow]:
        """The rows that have a value."""
        rows = self.rows[self.rows["value"].notna()].to_dict("records")
        return [BoardRow(**{str(name): value for name, value in row.items()}) for row in rows]


def leaderboard(
    store: Store | Path | str,
    *,
    suite: str | None = None,
    models: Iterable[str] | None = None,
    metrics: Iterable[object] | None = None,
) -> pd.DataFrame:
    """One row per number: every metric of every cell, then the averages over a model's cells.

    metrics: names or `{name: {parameter: value}}`; default, those of each suite as it was last run. Any registered metric can be computed
    from any store. value, low and high (a 95 % interval) are in `unit`; n is the metric's denominator. status: `complete`; `partial`, some
    samples (a value over the n there are) or some cells (no value) are missing; `failed`; `undefined`, the metric has no value here.
    `reason` says why. A metric that does not fit a kind of cell has no row there. seconds are a cell's, on each of its rows; an average's
    are the sum over its cells. `repro` is the command that makes the row again. `gradients`, beside every attack, is `honest …`, `suspect:
    …` or `unchecked: …`: the verdict on the model's gradients from all attacks on it in the store, other suites' too (see
    robustvit.results.gradient_masking). `plugins` and `contents` are the versions of what a number was computed with and the beginning of
    the data's fingerprint (see robustvit.results.editions). The same store gives the same table every time. `attrs` has the cards of the
    models in `models` and the views in `views`, by label. Raises StoreError for a store, suite or model that is not there, UnknownName or
    BadParameter for a metric.
    """
    board = build_leaderboard(store, suite=suite, models=models, metrics=metrics)
    board.rows.attrs["models"] = {model: asdict(card) for model, card in board.cards.items()}
    board.rows.attrs["views"] = {name: view.as_dict() for name, view in board.views.items()}
    return board.rows


def build_leaderboard(
    store: Store | Path | str, *, suite: str | None = None, models: Iterable[str] | None = None, metrics: Iterable[object] | None = None
) -> Leaderboard:
    """What `leaderboard` tabulates, with the cards of the models and the views beside the rows: for exports, factors and reports."""
    place = open_store(store)
    requested = None if metrics is None else MetricList([resolve_metric(node) for node in metrics])
    chosen = model_names(models)
    everything = stored_cells(place, None, chosen)
    cells = everything if suite is None else stored_cells(place, suite, chosen)
    lists = suite_metrics(place) if requested is None else {one.question.suite: requested for one in cells}
    reader = RowReader(place, GRADIENT_COLUMNS)
    groups = score_groups(reader, cells, everything, lists)
    gradients = verdicts(reader, cells, everything)

    shown: list[_Shown] = []
    for group, means, _ in groups:
        for one in group:
            own = {name: getattr(one.cell.question, name) for name in ("scenario", "severity", "cell", "params")}
            shown.append(_Shown([one], one.scores, {**own, "gradients": gradients.get(own["cell"], "")}))
        shown += [_Shown(one.cells, [one.score], {"scenario": one.scenario, "params": one.params}) for one in means]
    texts = edition_texts([[cell.edition for cell in one.cells] for one in shown])
    told = [{**_DEFAULTS, **_about_cells(one.cells), **text._asdict(), **one.own} for one, text in zip(shown, texts, strict=True)]
    rows = [about | _about_score(score) for one, about in zip(shown, told, strict=True) for score in one.scores]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    errors = {(one.cells[0].cell.question.suite, cell): wrong for one in groups for cell, wrong in one.errors.items()}
    return Leaderboard(_without_repeated_undefined(table), *_about(reader, cells), place, errors)


def read_csv(path: Path | str | TextIO) -> pd.DataFrame:
    """The rows of a leaderboard that was written as CSV.

    Earlier versions wrote the status `n/a` for `undefined`, which it is read as, and had fewer columns.
    """
    text = [name for name, kind in COLUMNS.items() if kind == "str"]
    found: pd.DataFrame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(text, "str"))
    found = without_quotes(found)
    found["status"] = found["status"].replace("n/a", "undefined")
    found = found.reindex(columns=list(COLUMNS)).astype(dict.fromkeys(text, object))
    return found.fillna(dict.fromkeys(text, "")).astype(COLUMNS)


def suite_metrics(store: Store) -> dict[str, MetricList]:
    """The metrics of each suite of a store, as it was last run."""
    return {manifest.suite.name: MetricList([_suite_metric(node) for node in manifest.suite.metrics]) for manifest in store.manifests()}


def _suite_metric(node: Any) -> Metric | UnknownMetric:
    """A metric that a store names, which is nobody's word to import code."""
    spec = parse(revive(node))[0]
    try:
        with refusing_code(f"If you trust it, name it yourself: robustvit leaderboard --metric {spec.name}"):
            return resolve_metric(spec)
    except (UnknownName, BadParameter, CodeRefused) as error:
        return UnknownMetric(str(spec), str(error))


class _Shown(NamedTuple):
    """Cells with the scores that are of them all, and what rows tell of them besides, in fields of `BoardRow`."""

    cells: Sequence[ScoredCell]
    scores: Sequence[Score]
    own: dict[str, str]


def _about_cells(cells: Sequence[ScoredCell]) -> dict[str, Any]:
    """What rows tell of the cells that they are of, in fields of `BoardRow`."""
    first, found, questions = cells[0].cell, [one.found for one in cells], [one.cell.question for one in cells]
    return {
        **{name: getattr(first.question, name) for name in GROUP},
        **{name: _listed(str(getattr(one, name)) for one in questions) for name in ("data", "view", "source")},
        "seconds": round(sum(one.seconds for one in found), 6),
        "weights": first.weights,
        "repro": first.question.command,
        "version": _listed(sorted(frozenset[str]().union(*(one.versions for one in found)))),
        "environment": _listed(sorted(frozenset[str]().union(*(one.environments for one in found)))),
    }


def _about_score(score: Score) -> dict[str, Any]:
    """What a row tells of its score, in fields of `BoardRow`."""
    metric = score.metric
    known = metric if isinstance(metric, Metric) else None
    return {
        **(score.estimate._asdict() if score.estimate else {}),
        "metric": metric.label if metric else "",
        "unit": known.entry.unit if known else "",
        "higher_is_better": not known or known.entry.higher_is_better,
        "status": score.status,
        "reason": score.reason,
    }


def _listed(texts: Iterable[str]) -> str:
    """Each text once."""
    return ", ".join(dict.fromkeys(texts))


def _without_repeated_undefined(board: pd.DataFrame) -> pd.DataFrame:
    """Drops the undefined row of a metric on one data set of a suite where it has a value, or the same reason, on another."""
    keys = [*(name for name in GROUP if name != "base"), "metric"]
    hollow = (board["status"] == "undefined") & (board["cell"] == "") & (board["scenario"] == "")
    defined = pd.MultiIndex.from_frame(board.loc[board["status"] != "undefined", keys])
    repeated = pd.MultiIndex.from_frame(board[keys]).isin(defined) | board.duplicated([*keys, "status", "reason"])
    left: pd.DataFrame = board[~(hollow & repeated)].reset_index(drop=True)
    return left


def _about(reader: RowReader, cells: Iterable[StoredCell]) -> tuple[dict[str, ModelFacts], dict[str, View]]:
    """The cards of the models and the views of the cells, by their labels."""
    known: dict[str, ModelFacts] = {}
    for card in (card for manifest in reader.store.manifests() for card in manifest.models.values()):
        earlier = known.get(card.fingerprint, ModelFacts())
        known[card.fingerprint] = replace(card, pipelines=_merged(earlier.pipelines, card.pipelines))
    cards, views = {}, {}
    for question in (one.question for one in cells):
        if question.view in views and question.model in cards:
            continue
        description = reader.description(question.cell)
        if description:
            cards[question.model] = known.get(str(description.get("weights")), ModelFacts())
            views[question.view] = _view(description["view"])
    return cards, views


def _merged(earlier: Mapping[str, Mapping[str, Any]], later: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The costs of pipelines from two runs: a latency that only the earlier one measured is kept."""
    return {name: {**earlier.get(name, {}), **later.get(name, {})} for name in dict.fromkeys([*earlier, *later])}


def _view(facts: Mapping[str, Any]) -> View:
    shown = facts.get("shown")
    return View(tuple(facts["size"]), facts["resize"], facts["crop"], facts["interpolation"], shown=tuple(shown) if shown else None)
