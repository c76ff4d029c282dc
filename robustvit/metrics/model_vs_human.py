"""Models compared with people: accuracy beside people's, and whether both err on the same images.

Responses to an image (in fact_humans) are the categories that each person chose, −1 where none came in time, which counts as wrong.
Averages are taken over the conditions that the authors count (fact_counted): not those without manipulation, nor those where people, too,
are correct less than 20 % of the time. A resample that draws no sample of a condition averages over the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans
from robustvit.statistics.estimates import Weighted

SETS = (
    "colour", "contrast", "high-pass", "low-pass", "phase-scrambling", "power-equalisation", "false-colour", "rotation",
    "eidolonI", "eidolonII", "eidolonIII", "uniform-noise", "sketch", "stylized", "edge", "silhouette", "cue-conflict",
)  # fmt: skip


@metric(
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "fact_condition", "fact_counted"),
)
def condition_accuracy(records: pd.DataFrame) -> Weighted:
    """Accuracy among the sixteen categories, averaged over the counted conditions of a set; of a set without conditions, its accuracy.

    Denominator: the samples of each condition. In the whole release conditions are equally large, so that this is also the accuracy over
    all their samples, which the authors report. n is the samples of those conditions. Bootstrap interval. No reference table.
    """
    conditions, right = _conditions(records), _right(records)[:, None]
    counted = int(conditions.any(axis=1).sum())
    return Weighted(lambda weights: _average(_shares(weights, conditions, right)), low=0.0, high=1.0, counted=counted)


@metric(
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=False,
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)
def accuracy_difference(records: pd.DataFrame) -> Weighted:
    """Squared difference of a model's and a person's accuracy, averaged over the counted conditions, then over people: in [0, 1].

    Denominator: the samples of each condition for an accuracy, which are fractions; then conditions, then people. n is the samples of those
    conditions. Sampling biases squares upwards: a value is too high by the share of samples on which the two differ, divided by the samples
    of a condition (a quarter of 160: by 0.0016). Published values have the same bias; the bootstrap interval is centred on the value. No
    reference table.
    """
    return _beside_people(records, lambda one: (one.model - one.people) ** 2, (0.0, 1.0), centred=True)


@metric(
    source="Geirhos, Meding and Wichmann 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=True,
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)
def observed_consistency(records: pd.DataFrame) -> Weighted:
    """Share of images that a model and a person both get right or both get wrong, averaged over the counted conditions, then over people.

    Denominator: the samples of each condition; then conditions, then people. In [0, 1]; two good observers agree often whatever they see,
    which error_consistency discounts. n is the samples of those conditions. Bootstrap interval. No reference table.
    """
    return _beside_people(records, lambda one: one.agree, (0.0, 1.0))


@metric(
    source="Geirhos, Meding and Wichmann 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=True,
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)
def error_consistency(records: pd.DataFrame) -> Weighted:
    """Cohen's κ between a model and a person being right, averaged over the counted conditions, then over people.

    κ = (o − e)/(1 − e), with o the observed consistency and e = p q + (1 − p)(1 − q) what two observers of the accuracies p and q would
    have by chance; 1 where o is 1. Denominator: the samples of each condition; then conditions, then people. At most 1, 0 at chance. n is
    the samples of those conditions. Bootstrap interval. No reference table.
    """
    return _beside_people(records, _kappa, (-1.0, 1.0))


@metric(
    title="out-of-distribution accuracy",
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    unit="%", higher_is_better=True, over="model", of="condition_accuracy", needs=("label", "pred", "fact_condition", "fact_counted"),
)  # fmt: skip
def ood_accuracy(means: CellMeans) -> np.ndarray:
    """condition_accuracy, averaged over the seventeen sets of model-vs-human.

    Denominator: seventeen sets, each weighing the same; all must be there. n is the samples of one set. No reference table.
    """
    return _over_sets(means)


@metric(
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=False, over="model", of="accuracy_difference",
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)  # fmt: skip
def mean_accuracy_difference(means: CellMeans) -> np.ndarray:
    """accuracy_difference, averaged over the seventeen sets of model-vs-human.

    Denominator: seventeen sets, each weighing the same; all must be there. n is the samples of one set. No reference table.
    """
    return _over_sets(means)


@metric(
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=True, over="model", of="observed_consistency",
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)  # fmt: skip
def mean_observed_consistency(means: CellMeans) -> np.ndarray:
    """observed_consistency, averaged over the seventeen sets of model-vs-human.

    Denominator: seventeen sets, each weighing the same; all must be there. n is the samples of one set. No reference table.
    """
    return _over_sets(means)


@metric(
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    higher_is_better=True, over="model", of="error_consistency",
    needs=("label", "pred", "fact_condition", "fact_counted", "fact_humans"),
)  # fmt: skip
def mean_error_consistency(means: CellMeans) -> np.ndarray:
    """error_consistency, averaged over the seventeen sets of model-vs-human.

    Denominator: seventeen sets, each weighing the same; all must be there. n is the samples of one set. No reference table.
    """
    return _over_sets(means)


def _right(records: pd.DataFrame) -> np.ndarray:
    return np.asarray(records["pred"] == records["label"])


def _conditions(records: pd.DataFrame) -> np.ndarray:
    """(n, C): which of the counted conditions a sample belongs to."""
    counted = np.asarray(records["fact_counted"]) == 1
    names = sorted(set(records["fact_condition"][counted]))
    if not names:
        raise NotApplicable("no sample is of a condition that counts")
    return np.stack([counted & np.asarray(records["fact_condition"] == name) for name in names], axis=1)


def _shares(weights: np.ndarray, conditions: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """(R, C, K): the share of a condition's weight, (n, C), that has each of the hits, (n, K); NaN where a condition has no weight."""
    inside = (conditions[:, :, None] & hits[:, None, :]).reshape(len(hits), -1)
    sums = (weights @ inside.astype(weights.dtype)).astype(np.float64).reshape(len(weights), conditions.shape[1], hits.shape[1])
    return _over(sums, (weights @ conditions.astype(weights.dtype)).astype(np.float64)[:, :, None])


def _over(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """sums / counts, NaN where nothing is counted."""
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def _average(values: np.ndarray) -> np.ndarray:
    """(R,): the mean of (R, …), leaving out what is NaN."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    return _over(np.where(known, flat, 0.0).sum(axis=1), known.sum(axis=1))


class _Beside(NamedTuple):
    """Shares of each condition, (R, C, 1 or H): the model is right, each person is, both are or neither."""

    model: np.ndarray
    people: np.ndarray
    agree: np.ndarray


def _beside_people(
    records: pd.DataFrame, score: Callable[[_Beside], np.ndarray], ends: tuple[float, float], centred: bool = False
) -> Weighted:
    conditions, right = _conditions(records), _right(records)[:, None]
    people = np.stack(records["fact_humans"].tolist()) == np.asarray(records["label"])[:, None]
    hits = np.concatenate([right, people, right == people], axis=1)
    last = 1 + people.shape[1]

    def average(weights: np.ndarray) -> np.ndarray:
        shares = _shares(weights, conditions, hits)
        return _average(score(_Beside(shares[..., :1], shares[..., 1:last], shares[..., last:])))

    return Weighted(average, *ends, counted=int(conditions.any(axis=1).sum()), centred=centred)


def _kappa(one: _Beside) -> np.ndarray:
    expected = one.model * one.people + (1 - one.model) * (1 - one.people)
    unsettled = (one.agree != 1) & (expected < 1)  # where chance explains everything, both are always right or always wrong, and agree
    kappa = np.divide(one.agree - expected, 1 - expected, out=np.ones_like(one.agree), where=unsettled)
    return np.where(np.isnan(one.agree), np.nan, kappa)


def _over_sets(means: CellMeans) -> np.ndarray:
    return np.asarray(means.apart(SETS).mean(axis=0))
