"""Why a number that is complete is marked: it is more likely a mistake in the setting, or it was reached another way than the usual one."""

from __future__ import annotations

import pandas as pd

from robustvit.records.cells import StoredCell
from robustvit.statistics.estimates import IntervalEstimate, Metric

GRADIENT = "gradient"  # the column of the Records that marks are read from
_REASONS = (
    "the classes of data and model may be numbered differently (a folder's ?order=natural or ?classes=FILE), the preprocessing may not be "
    "the model's (mean, std, size), or its head may not be the one that was trained"
)
_FAULTS = {
    "inside": "not finite on {}, where it was taken a quarter of a level inside [0, 1]",
    "not finite": "not finite on {}, where it counted as zero",
    "absent": "zero or missing on {}",
}


def at_chance(cell: StoredCell, metric: Metric, estimate: IntervalEstimate) -> str:
    """Why a top-1 accuracy on clean images is marked that is not shown to be above chance, nor twice as high; "" for any other score.

    Not for random weights, nor for data whose images were chosen because models get them wrong (ImageNet-A), nor for clips.
    """
    if metric.entry.name != "top1" or cell.question.scenario != "clean":
        return ""
    data = cell.data
    if cell.weights == "random" or data.filtered or data.clips:
        return ""
    classes = len(data.columns) if data.columns else data.classes
    chance = 100.0 / classes
    if classes < 2 or estimate.low > chance or estimate.value > 2 * chance:
        return ""
    return f"no better than chance ({chance:.3g} % with {classes} classes): {_REASONS}"


def faulty_gradients(metric: Metric, rows: pd.DataFrame) -> str:
    """Why a number is marked whose attack followed gradients that were not all there, an upper bound that may be loose; "" for others."""
    if "attacked" not in metric.entry.needs or GRADIENT not in rows:
        return ""
    counts, attacked = rows[GRADIENT].value_counts(), int(rows["attacked"].astype(bool).sum())
    found = [text.format(f"{counts[code]} of {attacked} attacked samples") for code, text in _FAULTS.items() if counts.get(code, 0)]
    return f"the input gradient was {', and '.join(found)}" if found else ""
