"""The worst case over attacks: of all cells that attack one model in one ball, the minimum for each sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MetricUndefined
from robustvit.results.attack_outcomes import moves_images
from robustvit.results.cell_scores import Score, ScoredCell
from robustvit.results.editions import mixed
from robustvit.results.parameters import attack_name
from robustvit.spec.grouping import grouped
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import Metric
from robustvit.statistics.resamples import Resampler

_NORM = re.compile(r"\bnorm=(\w+)")


class WorstCase(NamedTuple):
    """The attacks in one ball, their score together, and how many samples each leaves misclassified, the strongest first."""

    cells: Sequence[ScoredCell]
    score: Score
    ball: str
    fooled: str


def worst_cases(group: Sequence[ScoredCell], metric: Metric, resampler: Resampler) -> Iterator[WorstCase]:
    """The worst case of each ball that several cells of a group attack in. Cells without a value whatever is computed do not count."""
    attacks = [one for one in group if _in_a_ball(one) and one.found.status != "undefined"]
    for ball, cells in grouped((ball_of(one.cell.question.params, one.cell.question.severity), one) for one in attacks).items():
        if len(cells) > 1:
            yield _worst(cells, metric, resampler, ball)


def _in_a_ball(one: ScoredCell) -> bool:
    """Whether a cell is of an attack, and not of one that moves the image as a whole, which is the worst case of its own limits."""
    return one.cell.question.kind == "attack" and not moves_images(one.cell.question.scenario)


def _worst(cells: Sequence[ScoredCell], metric: Metric, resampler: Resampler, ball: str) -> WorstCase:
    of = metric.entry.of
    lacking = [one for one in cells if of not in one.values]
    if lacking:
        first = lacking[0]
        name = attack_name(first.cell.question.scenario, first.cell.question.params)
        reason = f"{len(cells) - len(lacking)} of {len(cells)} attacks; lacking {name}: {first.missing_reason.get(of, '')}"
        return WorstCase(cells, Score(metric, "partial", reason), ball, "")
    if reason := mixed(one.edition for one in cells):
        return WorstCase(cells, Score(metric, "undefined", reason), ball, "")
    keys = {one.values[of].key for one in cells}
    if len(keys) > 1:
        return WorstCase(cells, Score(metric, "undefined", "its attacks are of different samples"), ball, "")
    outcomes = pd.DataFrame({place: np.asarray(one.values[of].values, dtype=np.float64) for place, one in enumerate(cells)})
    resamples = resampler.of(next(iter(keys)))
    as_given = outcomes.iloc[np.argsort(resamples.order)].reset_index(drop=True)  # values are sorted by sample
    try:
        found = Score(metric, "complete", "", score(metric, as_given, resamples, resampler))
    except MetricUndefined as error:
        found = Score(metric, "undefined", str(error))
    return WorstCase(cells, found, ball, _fooled(cells, outcomes))


def _fooled(cells: Sequence[ScoredCell], outcomes: pd.DataFrame) -> str:
    """`transfer 41, square 12, pgd 3 of 120`: how many samples each leaves misclassified, those that are when clean among them."""
    counts = [float(count) for count in (1.0 - outcomes).sum(axis=0)]
    ordered = sorted(
        zip(counts, (attack_name(one.cell.question.scenario, one.cell.question.params) for one in cells), strict=True),
        key=lambda pair: -pair[0],
    )
    return ", ".join(f"{name} {count:g}" for count, name in ordered) + f" of {len(outcomes)}"


def ball_of(params: str, severity: str) -> str:
    """The ball that an attack with these parameters is held to: `l2 0.5`; linf where they name no norm."""
    norm = _NORM.search(params)
    return f"{norm[1] if norm else 'linf'} {severity}"
