"""Clean accuracy that is no better than chance: a number that is far more often a mistake in the setting than a property of the model."""

from __future__ import annotations

from robustvit.records.cells import StoredCell
from robustvit.statistics.estimates import IntervalEstimate, Metric

_REASONS = (
    "the classes of data and model may be numbered differently (a folder's ?order=natural or ?classes=FILE), the preprocessing may not be "
    "the model's (mean, std, size), or its head may not be the one that was trained"
)


def at_chance(cell: StoredCell, metric: Metric | None, estimate: IntervalEstimate | None) -> str:
    """Why a score is marked, "" where it is not: the top-1 accuracy on clean images is not shown to be above chance, nor twice as high.

    Not for random weights, nor for data whose images were chosen because models get them wrong (ImageNet-A), nor for clips.
    """
    question, data = cell.question, cell.data
    if metric is None or metric.entry.name != "top1" or question.scenario != "clean" or estimate is None:
        return ""
    if cell.weights == "random" or data.filtered or data.clips:
        return ""
    classes = len(data.columns) if data.columns else data.classes
    chance = 100.0 / classes
    if classes < 2 or estimate.low > chance or estimate.value > 2 * chance:
        return ""
    return f"no better than chance ({chance:.3g} % with {classes} classes): {_REASONS}"
