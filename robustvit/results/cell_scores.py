"""The scores of single cells: every metric that fits a cell, computed from its rows, and the values that averages need later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from robustvit.errors import BadParameter, MetricUndefined
from robustvit.records.cells import CellRows, RowReader, StoredCell, without_rows
from robustvit.results import clean_predictions
from robustvit.results.editions import Edition
from robustvit.results.marks import GRADIENT, mark_of
from robustvit.results.small_images import outside
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations
from robustvit.spec.spec import revive
from robustvit.statistics.cell_means import Values, values_of
from robustvit.statistics.correctness import DRAWN
from robustvit.statistics.estimates import IntervalEstimate, Metric, resolve_metric, score
from robustvit.statistics.intervals import Resampler, Resamples
from robustvit.statistics.metric_context import MetricContext

_PREDICTIONS = frozenset({"label", "pred", "confidence", "nll", "margin", "brier", "rank", "top5"})
_OF_PROBABILITIES = frozenset({"confidence", "nll", "brier", "logits"})  # columns that mean something where outputs are logits
_VOTES = frozenset({"label", "vote", "votes_first", "votes_second", "votes_label", "votes", "tokens", "patch_held"})
_EXPECTED = {  # columns of a cell that has no rows yet
    "corruption": _PREDICTIONS,
    "attack": _PREDICTIONS | {"linf", "l2", "l0", "attacked"},
    "certificate": _VOTES,
}


@dataclass(frozen=True)
class UnknownMetric:
    """A metric of a suite that is not installed here, and the reason."""

    label: str
    reason: str


@dataclass(frozen=True)
class MetricList:
    """The metrics that the cells of a suite are scored by, in the suite's order."""

    requested: Sequence[Metric | UnknownMetric]

    @cached_property
    def of_cells(self) -> list[Metric]:
        """The metrics of single cells, each followed by those that stand beside it wherever a cell has their columns."""
        return [one for known in self._known if known.entry.over == "cell" for one in (known, *self._beside(known))]

    def _beside(self, metric: Metric) -> list[Metric]:
        names = [name for name, entry in registry.entries("metric").items() if entry.beside == metric.entry.name]
        return [resolve_metric(name) for name in names if name not in {one.entry.name for one in self._known}]

    @cached_property
    def averaged(self) -> list[Metric]:
        """The metrics of single cells that the requested averages are means of."""
        return [resolve_metric(name) for name in dict.fromkeys(one.entry.of for one in self._known if one.entry.over != "cell")]

    @cached_property
    def columns(self) -> list[str] | None:
        """The columns to read, or None (all of them) where a metric does not declare its own."""
        scored = (*self._known, *self.of_cells, *self.averaged)
        if any(not one.entry.needs for one in scored if one.entry.over == "cell"):
            return None
        return sorted({"label", "pred", GRADIENT, *DRAWN}.union(*(one.entry.needs for one in scored)))

    @cached_property
    def compares_with_clean(self) -> bool:
        """Whether a metric needs the clean predictions."""
        return any(clean_predictions.COLUMN in one.entry.needs for one in self._known)

    @cached_property
    def _known(self) -> list[Metric]:
        return [one for one in self.requested if isinstance(one, Metric)]


@dataclass(frozen=True)
class Score:
    """The result of a metric: an estimate, or the reason why there is none; of a complete one, why it is marked.

    metric: None for an undefined cell, and for a failed one that no metric fits.
    """

    metric: Metric | UnknownMetric | None
    status: str
    reason: str
    estimate: IntervalEstimate | None = None


@dataclass(frozen=True)
class ScoredCell:
    """A cell with its scores. found: what was read, without the rows; columns: those that the rows have, or will have.

    mark: why its complete scores are marked, whatever the metric. edition: the versions and content that it stands on. values: of the
    metrics that averages are of, by name; missing_reason: why there are none.
    """

    cell: StoredCell
    found: CellRows
    columns: list[str]
    scores: list[Score]
    mark: str = ""
    edition: Edition = field(default_factory=Edition)
    values: dict[str, Values] = field(default_factory=dict)
    missing_reason: dict[str, str] = field(default_factory=dict)


def score_cells(
    reader: RowReader, cells: Sequence[StoredCell], others: Iterable[StoredCell], *, metrics: Mapping[str, MetricList], resampler: Resampler
) -> list[ScoredCell]:
    """The scores of cells, in their order, from rows that are read one cell at a time.

    others: the cells of the store among which clean predictions are looked for. metrics: by suite.
    """
    compared = [one for one in cells if metrics[one.question.suite].compares_with_clean]
    clean = clean_predictions.clean_predictions(reader, compared, others) if compared else {}
    return [_scored(reader, one, metrics[one.question.suite], clean.get(one.question.cell), resampler) for one in cells]


def _scored(reader: RowReader, cell: StoredCell, metrics: MetricList, clean: pd.Series | None, resampler: Resampler) -> ScoredCell:
    found = reader.rows(cell.question, metrics.columns)
    rows = found.rows
    if clean is not None and metrics.compares_with_clean:
        rows = rows.assign(**{clean_predictions.COLUMN: rows["sample"].map(clean).astype("float64")})
    context = cell_context(reader, cell) if len(rows) else MetricContext()
    columns = list(rows.columns) if len(rows) else [*_EXPECTED.get(cell.question.kind, ()), *rows.columns]
    rows = resampler(rows["sample"].tolist()).in_order(rows)  # once for all metrics
    resamples = resampler(rows["sample"].tolist())
    fitting: list[Metric | None] = [one for one in metrics.of_cells if one.applies(columns)]
    if found.status == "undefined" or (not fitting and found.status == "failed"):
        fitting = [None]
    description = reader.description(cell.question.cell)
    mark = outside(description)
    scores = [_marked(_scored_by(one, cell, replace(found, rows=rows), resamples, resampler, context), mark) for one in fitting]
    scored = ScoredCell(cell, replace(found, rows=without_rows(rows)), columns, scores, mark, Edition.of(description, cell.data))
    for of in metrics.averaged:
        scored.missing_reason[of.entry.name] = found.reason or of.missing([columns])
        if _lacks_logits(cell, of):
            scored.missing_reason[of.entry.name] = cell.outputs
        elif found.status == "complete" and of.applies(columns):
            try:
                scored.values[of.entry.name] = values_of(of, rows, resamples, resampler, context=context)
            except MetricUndefined as error:
                scored.missing_reason[of.entry.name] = str(error)
    return scored


def _scored_by(
    metric: Metric | None, cell: StoredCell, found: CellRows, resamples: Resamples, resampler: Resampler, context: MetricContext
) -> Score:  # fmt: skip
    if _lacks_logits(cell, metric):
        return Score(metric, "undefined", cell.outputs)
    made = _score(metric, found, resamples, resampler, context)
    return made if made.reason else replace(made, reason=mark_of(cell, metric, made.estimate, found.rows))


def _marked(score: Score, mark: str) -> Score:
    return replace(score, reason=mark) if score.status == "complete" and mark and not score.reason else score


def _lacks_logits(cell: StoredCell, metric: Metric | None) -> bool:
    """Whether a metric reads probabilities that a model's outputs do not give, because they are no logits."""
    return bool(cell.outputs) and metric is not None and not _OF_PROBABILITIES.isdisjoint(metric.entry.needs)


def _score(metric: Metric | None, found: CellRows, resamples: Resamples, resampler: Resampler, context: MetricContext) -> Score:
    if metric is None or len(found.rows) == 0:
        return Score(metric, found.status, found.reason)
    try:
        return Score(metric, found.status, found.reason, score(metric, found.rows, resamples, resampler, context=context))
    except MetricUndefined as error:
        return Score(metric, "undefined", str(error))


def cell_context(reader: RowReader, cell: StoredCell) -> MetricContext:
    """What a metric may need to know of a cell besides its rows."""
    question = cell.question
    if question.kind == "attack":
        return MetricContext(question.severity, cell.data.columns, cell.data.classes)
    if question.kind != "certificate":
        return MetricContext(reading_columns=cell.data.columns, classes=cell.data.classes)
    description = reader.description(question.cell)
    scenario = revive(description["scenario"])
    try:
        ablations = Ablations.of_scenario(scenario, tuple(description["view"]["size"]))
    except BadParameter:  # the image is too small for them: the cell has failed and its reason says so
        ablations = None
    return MetricContext(reading_columns=cell.data.columns, ablations=ablations, stop_at=scenario.get("stop_at"))
