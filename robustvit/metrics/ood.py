"""Out-of-distribution detection: images of no known class against the others, by a model's confidence.

The score of an image is minus its largest probability among the 200 classes of ImageNet-O (masked first, softmax second); images of no
class are the positives. With the roles exchanged the numbers are much higher and mean something else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import MissingCells, NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans

_OUT, _IN = ("imagenet-o", ""), ("val-of-imagenet-o", "")
_RECALL = 0.95


@metric(source="definition", unit="%", higher_is_better=True, needs=("confidence",))
def confidence(records: pd.DataFrame) -> np.ndarray:
    """Mean of the largest probability among the classes of the data's first reading.

    Denominator: all samples of the cell, n. Higher is not better by itself: see ece where labels are known, and ood_aupr where there are
    none. Bootstrap interval. No reference table.
    """
    return np.asarray(records["confidence"], dtype=np.float64)


@metric(
    title="out-of-distribution AUPR",
    source="Hendrycks et al. 2021, Natural Adversarial Examples", unit="%", higher_is_better=True, over="model", of="confidence",
    needs=("confidence",),
)  # fmt: skip
def ood_aupr(means: CellMeans) -> np.ndarray:
    """AUPR of ImageNet-O (positives) against validation images of its 200 classes: average precision, step by step, not by trapezoids.

    Denominators: 2,000 and 10,000 images where all are there; chance is the share of positives, 16.7 %, not 50. Both sets are resampled;
    the resamples, whose repeated images move them all to one side, are centred on the value. No reference table.
    """
    found = _ranked(means).average_precision()
    return np.append(found[:1], np.clip(found[1:] + found[0] - found[1:].mean(), 0.0, 1.0)) if len(found) > 1 else found


@metric(
    title="out-of-distribution AUROC",
    source="Hendrycks et al. 2021, Natural Adversarial Examples", unit="%", higher_is_better=True, over="model", of="confidence",
    needs=("confidence",),
)  # fmt: skip
def ood_auroc(means: CellMeans) -> np.ndarray:
    """AUROC of ImageNet-O (positives) against validation images of its 200 classes: how often a positive scores higher, ties one half.

    Denominators: the images of either set, both resampled. Chance is 50 %. No reference table.
    """
    return _ranked(means).area_under_roc()


@metric(
    title="out-of-distribution FPR at 95 % TPR",
    source="Hendrycks et al. 2021, Natural Adversarial Examples", unit="%", higher_is_better=False, over="model", of="confidence",
    needs=("confidence",),
)  # fmt: skip
def ood_fpr95(means: CellMeans) -> np.ndarray:
    """False positive rate where the recall of ImageNet-O is nearest to 95 %; the higher of two equally near ones.

    Denominators: the images of either set, both resampled. No reference table.
    """
    ranked = _ranked(means)
    recall, fallout = ranked.hits / ranked.hits[:, -1:], ranked.alarms / ranked.alarms[:, -1:]
    last = recall.shape[1] - 1
    place = last - np.abs(recall[:, ::-1] - _RECALL).argmin(axis=1)
    return np.asarray(fallout[np.arange(len(place)), place])


class Ranked(NamedTuple):
    """By falling score, (rows, thresholds): the weight of positives, and of others, at or above each distinct score."""

    hits: np.ndarray
    alarms: np.ndarray

    def average_precision(self) -> np.ndarray:
        """(rows,) precision averaged over the steps of recall."""
        precision = self.hits / np.maximum(self.hits + self.alarms, 1e-300)
        recall = self.hits / self.hits[:, -1:]
        return np.asarray((np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1))

    def area_under_roc(self) -> np.ndarray:
        """(rows,) area under recall over false positive rate, ties one half."""
        recall, fallout = self.hits / self.hits[:, -1:], self.alarms / self.alarms[:, -1:]
        before = np.hstack([np.zeros((len(recall), 1)), recall[:, :-1]])
        return np.asarray((np.diff(fallout, axis=1, prepend=0.0) * (recall + before) / 2).sum(axis=1))


def ranked_scores(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> Ranked:
    """scores: (n,); positive: (n,) bool; weights: (rows, n), how often each resample drew each sample."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    drawn, hit = weights[:, order].astype(np.float64), positive[order]
    return Ranked(np.cumsum(drawn * hit, axis=1)[:, last], np.cumsum(drawn * ~hit, axis=1)[:, last])


def _ranked(means: CellMeans) -> Ranked:
    (out, w_out), (inside, w_in) = _weighted(means, _OUT), _weighted(means, _IN)
    positive = np.arange(len(out) + len(inside)) < len(out)
    return ranked_scores(-np.concatenate([out, inside]), positive, np.hstack([w_out, w_in]))


def _weighted(means: CellMeans, cell: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """The confidences of a cell, (n,), and their weights: once each, then as the resamples drew them, (1 + R, n)."""
    if cell not in means.cells:
        raise NotApplicable(f"suite '{means.suite}' has no '{cell[0]}'")
    found = means.cells[cell]
    if found is None:
        raise MissingCells(f"lacking {cell[0]}")
    weights = means.resampler.of(found.key).weights.astype(np.float64)
    return np.asarray(found.values), np.vstack([np.ones((1, weights.shape[1])), weights])
