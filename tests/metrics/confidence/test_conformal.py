"""Conformal sets against a loop over samples and classes, and the guarantee that they are made for."""

import math

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.confidence.conformal import conformal_coverage, conformal_set_size, threshold
from robustvit.spec.parts import in_part
from robustvit.statistics.metric_context import MetricContext


def rows_of(n: int = 300, classes: int = 8, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    label = np.array([rng.choice(classes, p=np.exp(one) / np.exp(one).sum()) for one in logits])
    names = [f"{seed}/{i}" for i in range(n)]
    return pd.DataFrame({"sample": names, "label": label, "pred": logits.argmax(axis=1), "logits": list(logits)})


def by_hand(rows: pd.DataFrame, alpha: float, method: str) -> tuple[float, float]:
    """Coverage and mean size, one class of one sample after another."""
    p = [np.exp(one) / np.exp(one).sum() for one in rows["logits"]]

    def score(row: np.ndarray, one: int) -> float:
        if method == "lac":
            return 1 - row[one]
        rank = int((row > row[one]).sum()) + 1
        return row[row >= row[one]].sum() + (0.01 * max(rank - 5, 0) if method == "raps" else 0)

    half = in_part(rows["sample"].tolist(), "calibration")
    known = sorted(score(p[i], rows["label"][i]) for i in np.flatnonzero(half))
    at = known[math.ceil((len(known) + 1) * (1 - alpha)) - 1]
    sets = {i: {one for one in range(len(p[i])) if score(p[i], one) <= at + 1e-12} for i in np.flatnonzero(~half)}
    return np.mean([rows["label"][i] in found for i, found in sets.items()]), np.mean([len(found) for found in sets.values()])


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_sets_are_those_of_a_loop(method: str, alpha: float) -> None:
    rows = rows_of()
    found = [np.nanmean(one(rows, MetricContext(), alpha=alpha, method=method)) for one in (conformal_coverage, conformal_set_size)]
    assert found == pytest.approx(by_hand(rows, alpha, method))


def test_sets_hold_the_label_as_often_as_they_are_made_for() -> None:
    """Forty samples, twenty of calibration: with the n-th instead of the (n + 1)-th the mean coverage would be five points lower."""
    found = [np.nanmean(conformal_coverage(rows_of(40, seed=seed), MetricContext(), alpha=0.1)) for seed in range(400)]
    assert 0.89 < np.mean(found) < 0.96


def test_the_threshold_counts_the_new_sample() -> None:
    assert threshold(np.arange(1.0, 10.0), 0.1) == 9.0  # ⌈10 · 0.9⌉ = 9
    assert threshold(np.arange(1.0, 20.0), 0.1) == 18.0
    assert threshold(np.arange(1.0, 9.0), 0.1) == math.inf  # ⌈9 · 0.9⌉ = 9 of 8


def test_one_part_alone_is_refused() -> None:
    rows = rows_of()
    with pytest.raises(NotApplicable, match="here are 0 and"):
        conformal_coverage(rows[in_part(rows["sample"].tolist(), "evaluation")].reset_index(drop=True), MetricContext())
