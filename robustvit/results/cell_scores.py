"""The scores of single cells: every metric that fits a cell, computed from its rows, and the values that averages need later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from robustvit.errors import BadParameter, MetricUndefined
from robustvit.records.cells import CellRows, RowReader, StoredCell, without_rows
from robustvit.results.clean_predictions import COLUMN, CleanPredictions
from robustvit.results.editions import Edition
from robustvit.results.marks import GRADIENT, at_chance, faulty_gradients
from robustvit.results.small_images import outside
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations
from robustvit.spec.spec import revive
from robustvit.statistics.bootstrap_t import MeanIntervals
from robustvit.statistics.cell_estimates import deferred_score
from robustvit.statistics.cell_means import Values, values_of
from robustvit.statistics.correctness import DRAWN
from robustvit.statistics.estimates import IntervalEstimate, Metric, resolve_metric
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resampler, Resamples

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
        return any(COLUMN in one.entry.needs for one in self._known)

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
    reader: RowReader, cells: Sequence[StoredCell], clean: CleanPredictions, *, metrics: Mapping[str, MetricList], resampler: Resampler
) -> list[ScoredCell]:
    """The scores of cells, in their order, from rows that are read one cell at a time.

    clean: where clean predictions are looked for. metrics: by suite.
    """
    intervals = MeanIntervals()
    deferred = [_deferred(reader, one, metrics[one.question.suite], clean, resampler, intervals) for one in cells]
    return [one() for one in deferred]


def _deferred(
    reader: RowReader, cell: StoredCell, metrics: MetricList, clean: CleanPredictions, resampler: Resampler, intervals: MeanIntervals
) -> Callable[[], ScoredCell]:
    """What gives the scores of a cell, whose intervals may wait for those of other cells of the same samples; the rows are read now."""
    found = reader.rows(cell.question, metrics.columns)
    rows = found.rows
    predictions = clean.beside(cell) if metrics.compares_with_clean else None
    if predictions is not None:
        rows = rows.assign(**{COLUMN: rows["sample"].map(predictions).astype("float64")})
    context = cell_context(reader, cell) if len(rows) else MetricContext()
    columns = list(rows.columns) if len(rows) else [*_EXPECTED.get(cell.question.kind, ()), *rows.columns]
    given = resampler.of_series(found.samples)
    rows, resamples = given.in_order(rows), given.in_their_order  # sorted once for all metrics
    fitting: list[Metric | None] = [one for one in metrics.of_cells if one.applies(columns)]
    if found.status == "undefined" or (not fitting and found.status == "failed"):
        fitting = [None]
    description = reader.description(cell.question.cell)
    mark = outside(description)
    deferred = [_deferred_score(one, cell, replace(found, rows=rows), resamples, resampler, intervals, context) for one in fitting]
    scored = ScoredCell(cell, replace(found, rows=without_rows(rows)), columns, [], mark, Edition.of(description, cell.data))
    for of in metrics.averaged:
        scored.missing_reason[of.entry.name] = found.reason or of.missing([columns])
        if _lacks_logits(cell, of):
            scored.missing_reason[of.entry.name] = cell.outputs
        elif found.status == "complete" and of.applies(columns):
            try:
                scored.values[of.entry.name] = values_of(of, rows, resamples, resampler, context=context)
            except MetricUndefined as error:
                scored.missing_reason[of.entry.name] = str(error)
    return lambda: replace(scored, scores=[_marked(score(), mark) for score in deferred])


def _deferred_score(
    metric: Metric | None, cell: StoredCell, found: CellRows, resamples: Resamples, resampler: Resampler, intervals: MeanIntervals,
    context: MetricContext,
) -> Callable[[], Score]:  # fmt: skip
    if _lacks_logits(cell, metric):
        return lambda: Score(metric, "undefined", cell.outputs)
    if metric is None or len(found.rows) == 0:
        return partial(Score, metric, found.status, found.reason)
    try:
        estimate = deferred_score(metric, found.rows, resamples, resampler, intervals, context=context)
    except MetricUndefined as error:
        undefined = Score(metric, "undefined", str(error))
        return lambda: undefined
    status, reason, faulty = found.status, found.reason, faulty_gradients(metric, found.rows)  # the rows are not kept meanwhile

    def score() -> Score:
        made = estimate()
        return Score(metric, status, reason or at_chance(cell, metric, made) or faulty, made)

    return score


def _marked(score: Score, mark: str) -> Score:
    return replace(score, reason=mark) if score.status == "complete" and mark and not score.reason else score


def _lacks_logits(cell: StoredCell, metric: Metric | None) -> bool:
    """Whether a metric reads probabilities that a model's outputs do not give, because they are no logits."""
    return bool(cell.outputs) and metric is not None and not _OF_PROBABILITIES.isdisjoint(metric.entry.needs)


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
