"""How well a score of the analysis ood_scores tells out-of-distribution images from those of the data set, on sets by name.

The metrics take `score`, the name of a column value_ood_NAME, and `sets`: `near`, `far`, or one of the sets, `ninco`. Both kinds of
images are in one data set (`ood`), whose fact names each image's set, and are resampled together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.metrics.ood import Ranked, ranked_scores
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted

_ACCEPTED = 0.95
_AT_ONCE = 1 << 22  # weights of resamples that are ranked together


@metric(
    title="out-of-distribution AUROC by score",
    source="Hendrycks and Gimpel 2017, A Baseline for Detecting Misclassified and Out-of-Distribution Examples", unit="%",
    higher_is_better=True, url="https://arxiv.org/abs/1610.02136", needs=("value_ood_{score}", "fact_ood"),
)  # fmt: skip
def ood_score_auroc(records: pd.DataFrame, *, score: str, sets: str) -> Weighted:
    """AUROC of a score: how often an image of the sets scores higher than one of the data set, ties one half.

    Denominators: the images of the sets, and those of the data set; n counts both. Chance is 50 %. Bootstrap interval. No reference table.
    """
    return _detection(records, score, sets, Ranked.area_under_roc)


@metric(
    title="out-of-distribution AUPR by score",
    source="Hendrycks and Gimpel 2017, A Baseline for Detecting Misclassified and Out-of-Distribution Examples", unit="%",
    higher_is_better=True, url="https://arxiv.org/abs/1610.02136", needs=("value_ood_{score}", "fact_ood"),
)  # fmt: skip
def ood_score_aupr(records: pd.DataFrame, *, score: str, sets: str) -> Weighted:
    """AUPR of a score, the images of the sets being the positives (AUPR-out): average precision, step by step, not by trapezoids.

    Denominators: the images of the sets, and those of the data set; n counts both. Chance is the share of positives, which depends on the
    sizes of the sets: compare on the same images alone. Bootstrap interval. No reference table.
    """
    return _detection(records, score, sets, Ranked.average_precision)


@metric(
    title="out-of-distribution FPR at 95 % TPR by score",
    source="Liang, Li and Srikant 2018, Enhancing the Reliability of Out-of-Distribution Image Detection (ODIN), section 4", unit="%",
    higher_is_better=False, url="https://arxiv.org/abs/1706.02690", needs=("value_ood_{score}", "fact_ood"),
)  # fmt: skip
def ood_score_fpr95(records: pd.DataFrame, *, score: str, sets: str) -> Weighted:
    """FPR at 95 % TPR: the share of the sets' images that pass for the data set's where at least 95 % of the data set's images do.

    The positives are the data set's own images, as in the papers of these scores; ood_fpr95, of ImageNet-O, has the roles exchanged.
    Denominators: the images of the sets, and those of the data set; n counts both. Bootstrap interval. No reference table.
    """
    return _detection(records, score, sets, _false_positives)


def _false_positives(ranked: Ranked) -> np.ndarray:
    """(rows,) share of the sets' images below the highest score that at least 95 % of the other images lie below."""
    above = np.hstack([np.zeros((len(ranked.alarms), 1)), ranked.alarms]) / ranked.alarms[:, -1:]
    place = (above <= 1.0 - _ACCEPTED + 1e-9).sum(axis=1) - 1  # as many thresholds as reject at most 5 %
    found = np.hstack([np.zeros((len(ranked.hits), 1)), ranked.hits]) / ranked.hits[:, -1:]
    return np.asarray(1.0 - found[np.arange(len(place)), place])


def _detection(records: pd.DataFrame, score: str, sets: str, statistic: Callable[[Ranked], np.ndarray]) -> Weighted:
    scores, facts = np.asarray(records[f"value_ood_{score}"], dtype=np.float64), records["fact_ood"].astype(str)
    inside, outside = np.asarray(facts == ""), _members(facts, sets)
    counted = inside | outside
    if not inside.any() or not outside.any():
        raise NotApplicable(f"it takes images of the data set and of '{sets}'; here are {inside.sum()} and {outside.sum()}")
    if np.isnan(scores[counted]).any():
        raise NotApplicable(
            f"'{score}' is a score of penultimate features, which this model does not show: its logits are not what one linear layer makes"
        )
    values, positive = scores[counted], outside[counted]

    def of(weights: np.ndarray) -> np.ndarray:
        parts = np.array_split(weights[:, counted], -(-weights.size // _AT_ONCE))
        return np.concatenate([_of_resamples(part, values, positive, statistic) for part in parts if len(part)])

    return Weighted(of, low=0.0, high=1.0, counted=int(counted.sum()))


def _of_resamples(weights: np.ndarray, scores: np.ndarray, positive: np.ndarray, statistic: Callable[[Ranked], np.ndarray]) -> np.ndarray:
    """(rows,) the statistic, NaN where a resample lacks either kind of images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (weights[:, positive].sum(axis=1) > 0) & (weights[:, ~positive].sum(axis=1) > 0)
        return np.where(both, statistic(ranked_scores(scores, positive, weights)), np.nan)


def _members(facts: pd.Series, sets: str) -> np.ndarray:
    """(n,) bool: the images of the sets of that name. Raises NotApplicable, naming those there are."""
    parts = facts.str.split("/")
    found = np.asarray([bool(sets) and sets in one for one in parts])
    if not found.any():
        known = ", ".join(sorted({one for one in facts if one})) or "none"
        raise NotApplicable(f"no image is of the set '{sets}'; the data has {known}")
    return found
