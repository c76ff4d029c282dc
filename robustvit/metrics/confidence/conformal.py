"""Split conformal prediction: sets of classes that hold the label with a chosen probability, and how large they are.

A threshold is fitted on the samples of the part `calibration` (robustvit.spec.parts), sets are made of the others, `evaluation`: it is
the ⌈(n + 1)(1 − α)⌉-th smallest score of a label among the n calibration samples, and a set has every class whose score is at most that.
Sets hold the label of a new sample with probability 1 − α or more on average over calibration samples, if both are drawn alike.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Gt, Lt
from scipy.special import softmax

from robustvit.errors import NotApplicable
from robustvit.metrics.confidence.calibration import read_logits
from robustvit.spec.parts import in_part
from robustvit.spec.registry import metric
from robustvit.statistics.metric_context import MetricContext

Method = Literal["lac", "aps", "raps"]
Alpha = Annotated[float, Gt(0), Lt(1)]

_SOURCE = "Sadinle, Lei and Wasserman 2019 (lac); Romano, Sesia and Candès 2020 (aps); Angelopoulos, Bates, Jordan and Malik 2021 (raps)"
_URL = "https://arxiv.org/abs/2009.14193"
_PENALTY, _FREE = 0.01, 5  # raps: what each rank beyond the fifth adds to a score, the authors' usual values


@metric(source=_SOURCE, url=_URL, unit="%", higher_is_better=True, needs=("label", "pred", "logits"))
def conformal_coverage(records: pd.DataFrame, context: MetricContext, *, alpha: Alpha = 0.1, method: Method = "lac") -> np.ndarray:
    """Share of evaluation samples whose conformal set holds their label; 100 · (1 − alpha) is what sets are made for.

    method: the score of a class, lac 1 − its probability, aps the sum of the probabilities down to it, raps that and 0.01 for each rank
    beyond the fifth; aps and raps without their random tie-breaking, so that sets are a little larger. It needs kept logits (`--keep
    logits`). Denominator: the evaluation samples, n; calibration samples are left out. Wilson interval of this threshold's coverage, which
    itself lies about 1 − alpha by √(α(1 − α)/n) of the calibration samples. No reference table.
    """
    sets = _sets(records, context, alpha, method)
    return np.where(sets.scored, sets.members[np.arange(len(records)), np.asarray(records["label"])], np.nan)


@metric(source=_SOURCE, url=_URL, unit="classes", higher_is_better=False, needs=("label", "pred", "logits"))
def conformal_set_size(records: pd.DataFrame, context: MetricContext, *, alpha: Alpha = 0.1, method: Method = "lac") -> np.ndarray:
    """Mean number of classes in a conformal set: small where a model knows what it does not know. Sets, parts and methods as there.

    Of lac a set may be empty. Compare at the same alpha, method and number of classes. Denominator: the evaluation samples, n. Bootstrap
    interval with the threshold held fixed. No reference table.
    """
    sets = _sets(records, context, alpha, method)
    return np.where(sets.scored, sets.members.sum(axis=1), np.nan)


class _Sets(NamedTuple):
    """members: (n, K) bool, whether a class is in a sample's set; scored: (n,) bool, whether the sample is one of evaluation."""

    members: np.ndarray
    scored: np.ndarray


def _sets(records: pd.DataFrame, context: MetricContext, alpha: float, method: Method) -> _Sets:
    names = records["sample"].tolist()
    fitted, scored = in_part(names, "calibration"), in_part(names, "evaluation")
    if not fitted.any() or not scored.any():
        raise NotApplicable(f"it takes samples of the parts calibration and evaluation; here are {fitted.sum()} and {scored.sum()}")
    scores = class_scores(softmax(read_logits(records, context), axis=1), method)
    own = scores[np.arange(len(names)), np.asarray(records["label"])]
    return _Sets(scores <= threshold(own[fitted], alpha), scored)


def threshold(scores: np.ndarray, alpha: float) -> float:
    """The ⌈(n + 1)(1 − alpha)⌉-th smallest of n scores of labels; infinite where there is none, so that sets have every class."""
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= n else math.inf


def class_scores(probabilities: np.ndarray, method: Method) -> np.ndarray:
    """(N, K) the score of each class: the lower, the sooner it is in a set."""
    if method == "lac":
        return 1.0 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    if method == "raps":
        ranked = ranked + _PENALTY * np.maximum(np.arange(1, ranked.shape[1] + 1) - _FREE, 0)
    scores = np.empty_like(ranked)
    np.put_along_axis(scores, order, ranked, axis=1)
    return scores
