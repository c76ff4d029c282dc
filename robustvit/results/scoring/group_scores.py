"""The scores of the cells of one model on one suite and their averages: computed, or found in the user's cache.

Scores are kept where all cells of a group are finished and every metric is robustvit's own, under a digest of the code, the metrics and the
cells, of whose files it has names (with the digests of their contents), sizes and times. One model more in a store, and its rows alone are
read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.records.cells import CellRows, RowReader, StoredCell
from robustvit.results.averages import Average, averages
from robustvit.results.cell_scores import MetricList, Score, ScoredCell, score_cells
from robustvit.results.clean_predictions import CleanPredictions
from robustvit.results.editions import Edition
from robustvit.results.scoring.cell_errors import CellErrors, packed_errors, unpacked_errors
from robustvit.results.scoring.score_files import code_digest, keep_scores, read_scores, text_digest
from robustvit.spec.grouping import grouped
from robustvit.statistics.estimates import IntervalEstimate, Metric
from robustvit.statistics.resamples import Resampler

GROUP = ("model", "transforms", "suite", "base", "seed", "precision", "model_view", "storage")  # what an average never mixes
_LEAST, _OF_CELL = 1000, 50  # rows of a group whose scores are worth a file, and what opening a cell counts as
_NO_ROWS = pd.DataFrame()
_FINAL = ("complete", "undefined")
_MANY = 4_000_000  # rows, from which on groups are scored side by side: numpy and Arrow leave the interpreter to other threads
_WORKERS = 4  # groups at a time, some 150 MB each of cells of 50,000 rows


class GroupScores(NamedTuple):
    """The cells of a group with their scores, without the values that averages needed, and the averages.

    errors: of corruptions, by cell, as far as averages needed them: a byte for each row.
    """

    cells: list[ScoredCell]
    averages: list[Average]
    errors: Mapping[str, CellErrors]


def score_groups(
    reader: RowReader, cells: Iterable[StoredCell], others: Iterable[StoredCell], metrics: Mapping[str, MetricList]
) -> list[GroupScores]:
    """The scores of cells and their averages, those that may be averaged with each other together, in the order of their first.

    others: the cells of the store among which clean predictions are looked for. metrics: by suite. In memory are the rows of one cell at a
    time, and a byte or so for each row of a group.
    """
    groups = list(grouped((tuple(getattr(one.question, name) for name in GROUP), one) for one in cells).values())
    scorer = _Scorer(reader, CleanPredictions(reader, others), metrics, Resampler())
    found = list(map(scorer, groups[:1]))  # alone, so that resamples are drawn once
    if sum(one.question.asked for group in groups[1:] for one in group) < _MANY:
        return found + list(map(scorer, groups[1:]))
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as workers:
        return found + list(workers.map(scorer, groups[1:]))


@dataclass(frozen=True)
class _Scorer:
    """Scores one group of cells. It may be called from several threads."""

    reader: RowReader
    clean: CleanPredictions
    metrics: Mapping[str, MetricList]
    resampler: Resampler

    def __call__(self, group: Sequence[StoredCell]) -> GroupScores:
        reader, wanted = self.reader, self.metrics[group[0].question.suite]
        key = _key(reader, group, self.clean, wanted)
        known = read_scores(key) if key else None
        restored = None if known is None else _restored(known, group, wanted, reader)
        if restored is not None:
            return restored
        scored = score_cells(reader, group, self.clean, metrics=self.metrics, resampler=self.resampler)
        made = averages(scored, wanted, self.resampler)
        scores = GroupScores([replace(one, values={}) for one in scored], made, self._errors(scored))
        if key and all(one.found.status in _FINAL for one in scored):
            keep_scores(key, _plain(scores, reader))
        return scores

    def _errors(self, scored: Iterable[ScoredCell]) -> dict[str, CellErrors]:
        found = {}
        for one in scored:
            known = one.values.get("error") if one.cell.question.kind == "corruption" else None
            if known is not None and isinstance(known.values, np.ndarray) and known.values.dtype == np.bool_:
                found[one.cell.question.cell] = CellErrors(self.resampler.ids(known.key), known.values, known.key)
        return found


def _key(reader: RowReader, group: Sequence[StoredCell], clean: CleanPredictions, wanted: MetricList) -> str:
    """What the scores of a group follow from, "" where they are not worth keeping, or follow from code that is not robustvit's."""
    if sum(one.question.asked + _OF_CELL for one in group) < _LEAST or not all(map(_own, (*wanted.requested, *wanted.of_cells))):
        return ""
    beside = (clean.cell_beside(one) for one in group if wanted.compares_with_clean)
    read = dict.fromkeys([*(one.question.cell for one in group), *(one.cell for one in beside if one is not None)])
    labels = [[one.label for one in some] for some in (wanted.requested, wanted.of_cells, wanted.averaged)]
    facts = list({id(one.data): one.data for one in group}.values())
    about = [[vars(one.question), one.weights, one.outputs, facts.index(one.data)] for one in group]
    follows = [code_digest(), labels, about, facts, [reader.store.stamps(cell) for cell in read]]
    return text_digest(json.dumps(follows, sort_keys=True, default=vars))


def _own(metric: object) -> bool:
    """Whether a metric is robustvit's own."""
    return isinstance(metric, Metric) and metric.entry.module.partition(".")[0] == "robustvit"


def _plain(scores: GroupScores, reader: RowReader) -> dict[str, Any]:
    """Scores as JSON has them; the tables of samples that rows were read with beside them."""
    place = {one.cell.question.cell: number for number, one in enumerate(scores.cells)}
    return {
        "tables": reader.store.tables.stamps(),
        "cells": [
            {
                "status": one.found.status, "reason": one.found.reason, "seconds": one.found.seconds,
                "versions": sorted(one.found.versions), "environments": sorted(one.found.environments),
                "columns": one.columns, "mark": one.mark, "scores": [_plain_score(score) for score in one.scores],
                "edition": [sorted(map(list, one.edition.plugins)), one.edition.data, one.edition.content, one.edition.by_names],
            }
            for one in scores.cells
        ],
        "averages": [[[place[cell.cell.question.cell] for cell in one.cells], _plain_score(one.score), one.scenario, one.params]
                     for one in scores.averages],
        "errors": packed_errors(scores.errors),
    }  # fmt: skip


def _plain_score(score: Score) -> list[Any]:
    return [score.metric.label if score.metric else None, score.status, score.reason, score.estimate and list(score.estimate)]


def _restored(known: Mapping[str, Any], group: Sequence[StoredCell], wanted: MetricList, reader: RowReader) -> GroupScores | None:
    """What `_plain` made; None where a table of samples is not the one that rows were read with."""
    tables = reader.store.tables.stamps()
    if any(tables.get(name) != stamp for name, stamp in known["tables"].items()):
        return None
    metrics = {one.label: one for one in (*wanted.requested, *wanted.of_cells)}

    def score(plain: Sequence[Any]) -> Score:
        label, status, reason, estimate = plain
        return Score(None if label is None else metrics[label], status, reason, estimate and IntervalEstimate(*estimate))

    cells = []
    for cell, one in zip(group, known["cells"], strict=True):
        rows = CellRows(_NO_ROWS, one["status"], one["reason"], one["seconds"], frozenset(one["versions"]), frozenset(one["environments"]))
        plugins, *rest = one["edition"]
        edition = Edition(frozenset(map(tuple, plugins)), *rest)
        cells.append(ScoredCell(cell, rows, one["columns"], [score(each) for each in one["scores"]], one["mark"], edition))
    made = [Average([cells[place] for place in places], score(plain), *about) for places, plain, *about in known["averages"]]
    return GroupScores(cells, made, unpacked_errors(known["errors"]))
