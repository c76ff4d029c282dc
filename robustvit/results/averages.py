"""The scores over several cells of one model on one suite: corruption errors, mCE and other averages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from robustvit.errors import MetricUndefined, MissingCells
from robustvit.results.cell_scores import MetricList, Score, ScoredCell, UnknownMetric
from robustvit.results.editions import mixed
from robustvit.results.worst_cases import worst_cases
from robustvit.statistics.bootstrap_t import MeanIntervals
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import Metric
from robustvit.statistics.mean_intervals import deferred_means
from robustvit.statistics.resamples import Resampler


@dataclass(frozen=True)
class Average:
    """A score over several cells.

    scenario: the corruption whose severities they are, or the ball of attacks; empty for an average over a whole suite. params: what else a
    table tells of it.
    """

    cells: Sequence[ScoredCell]
    score: Score
    scenario: str = ""
    params: str = ""


def averages(group: Sequence[ScoredCell], metrics: MetricList, resampler: Resampler) -> list[Average]:
    """The averages of a group of cells, and the metrics of cells that fit none of its cells.

    group: the cells of one model on one suite, which may be averaged. An average of cells that are not complete is `partial` and has no
    value; one of cells of several versions of a plug-in, or of several contents of a data set, is `undefined`.
    """
    deferred = list(_of_group(group, metrics, resampler, MeanIntervals()))
    return [replace(one, score=score()) for one, score in deferred]


def _undefined_measurement(metric: Metric, group: Sequence[ScoredCell]) -> bool:
    """Whether a metric reads what an analysis measures, and one of the group is undefined: that cell says why, once."""
    reads = any(column.startswith("value_") for column in metric.entry.needs)
    return reads and any(one.cell.question.kind == "analysis" and one.found.status == "undefined" for one in group)


_DEFERRED = Score(None, "partial", "")  # of an average whose score is not computed yet


def _of_group(
    group: Sequence[ScoredCell], metrics: MetricList, resampler: Resampler, intervals: MeanIntervals
) -> Iterator[tuple[Average, Callable[[], Score]]]:
    """Each average without its score, and what gives that: its interval may wait for others."""
    means = {of.entry.name: _means(group, of, resampler) for of in metrics.averaged}
    for metric in metrics.requested:
        if isinstance(metric, UnknownMetric):
            yield Average(group, _DEFERRED), partial(Score, metric, "undefined", metric.reason)
        elif metric.entry.over == "cell":
            missing = metric.missing(one.columns for one in group)
            if missing and not _undefined_measurement(metric, group):
                yield Average(group, _DEFERRED), partial(Score, metric, "undefined", missing)
        elif metric.entry.over == "corruption":
            graded = _graded(group, metric)
            for name in dict.fromkeys(one.cell.question.scenario for one in graded):
                cells = [one for one in graded if one.cell.question.scenario == name]
                yield Average(cells, _DEFERRED, name), _deferred(cells, metric, means[metric.entry.of], intervals, name)
        elif metric.entry.over == "attacks":
            for one in worst_cases(group, metric, resampler):
                yield Average(one.cells, one.score, one.ball, one.fooled), partial(replace, one.score)
        elif metric.entry.over == "model":
            cells = _graded(group, metric) or list(group)
            yield Average(cells, _DEFERRED), _deferred(cells, metric, means[metric.entry.of], intervals)


def _deferred(
    cells: Sequence[ScoredCell], metric: Metric, means: CellMeans, intervals: MeanIntervals, *which: str
) -> Callable[[], Score]:  # fmt: skip
    if all(one.found.status == "undefined" for one in cells):
        return partial(Score, metric, "undefined", cells[0].found.reason)
    if reason := mixed(one.edition for one in cells):
        return partial(Score, metric, "undefined", reason)
    try:
        estimate = deferred_means(metric, means, intervals, *which)
        mark = _mark(cells, metric, means, *which)
    except MissingCells as error:
        return partial(Score, metric, "partial", str(error))
    except MetricUndefined as error:
        return partial(Score, metric, "undefined", str(error))
    return lambda: Score(metric, "complete", mark, estimate())


def _mark(cells: Sequence[ScoredCell], metric: Metric, means: CellMeans, *which: str) -> str:
    """Why an average is marked: by the metric itself, and because its cells are."""
    own = metric.entry.load_beside(metric.entry.marks)(means, *which) if metric.entry.marks else ""
    return "; ".join(dict.fromkeys(text for text in (own, *(one.mark for one in cells)) if text))


def _graded(group: Sequence[ScoredCell], metric: Metric) -> list[ScoredCell]:
    """The corruptions with severities that an average may count."""
    return [one for one in group if one.cell.question.kind == "corruption" and one.cell.question.severity and _counts(metric, one)]


def _counts(metric: Metric, one: ScoredCell) -> bool:
    """Whether an average may count a cell: clips, whose frames are compared with each other, are not mixed with images that have labels."""
    clips = one.cell.data.clips  # None in stores of earlier versions, which did not record it
    return clips is None or clips == ("against" in metric.entry.needs)


def _means(group: Sequence[ScoredCell], of: Metric, resampler: Resampler) -> CellMeans:
    cells: dict[tuple[str, str], Values | None] = {}
    why: dict[tuple[str, str], str] = {}
    repeated = set()
    for one in group:
        if one.cell.question.kind == "corruption" and _counts(of, one):
            repeated |= {one.cell.variant} & cells.keys()
            cells[one.cell.variant] = one.values.get(of.entry.name)
            why[one.cell.variant] = one.missing_reason.get(of.entry.name, "")
    first = group[0].cell
    return CellMeans(first.question.suite, first.question.base, first.data.classes, cells, resampler, frozenset(repeated), why=why)
