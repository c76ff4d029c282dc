"""Out-of-distribution scores against scikit-learn, and the traps: polarity, ties, chance."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from robustvit.errors import MissingCells, NotApplicable
from robustvit.metrics.ood import ood_aupr, ood_auroc, ood_fpr95
from robustvit.metrics.shift import accuracy_gap
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.resamples import Resampler


def asked(out: np.ndarray, inside: np.ndarray) -> CellMeans:
    resampler = Resampler()
    cells = {}
    for name, values in (("imagenet-o", out), ("val-of-imagenet-o", inside)):
        cells[name, ""] = Values(resampler([f"{name}/{i}" for i in range(len(values))]).key, values)
    return CellMeans("imagenet-o", "imagenet", 1000, cells, resampler)


def drawn(seed: int = 0, digits: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.round(rng.beta(2, 2, 60), digits), np.round(rng.beta(4, 2, 240), digits)


@pytest.mark.parametrize("digits", [12, 1])
def test_areas_are_those_of_scikit_learn_ties_included(digits: int) -> None:
    out, inside = drawn(digits=digits)
    truth, scores = np.r_[np.ones(60), np.zeros(240)], -np.r_[out, inside]
    assert ood_aupr(asked(out, inside))[0] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert ood_auroc(asked(out, inside))[0] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_replicates_are_the_areas_of_resampled_images_centred_on_the_value() -> None:
    out, inside = drawn()
    means = asked(out, inside)
    both = np.hstack([means.resampler.of(means.cells[name, ""].key).weights for name in ("imagenet-o", "val-of-imagenet-o")])  # type: ignore[union-attr]
    truth, scores = np.r_[np.ones(60), np.zeros(240)], -np.r_[out, inside]
    areas = np.array([average_precision_score(truth, scores, sample_weight=weights) for weights in both])
    found = ood_aupr(means)
    assert found[1:] == pytest.approx(areas - areas.mean() + found[0], abs=1e-9)


def test_a_model_that_separates_both_sets_scores_a_hundred() -> None:
    means = asked(np.linspace(0.1, 0.2, 20), np.linspace(0.8, 0.9, 100))
    assert (ood_aupr(means)[0], ood_auroc(means)[0], ood_fpr95(means)[0]) == (pytest.approx(1), pytest.approx(1), 0.0)


def test_chance_is_the_share_of_positives() -> None:
    rng = np.random.default_rng(0)
    assert ood_aupr(asked(rng.random(2000), rng.random(10000)))[0] == pytest.approx(2000 / 12000, abs=0.01)


def test_the_false_positive_rate_is_taken_where_recall_is_nearest_to_ninety_five() -> None:
    out = np.linspace(0.0, 0.95, 20)  # 19 of 20 lie at or below 0.9
    assert ood_fpr95(asked(out, np.array([0.5, 0.97, 0.98, 0.99])))[0] == 0.25
    assert ood_fpr95(asked(out, np.array([0.5, 0.92, 0.98, 0.99])))[0] == 0.5  # at equal recall the higher, as in the authors' code


def test_the_interval_surrounds_the_value() -> None:
    value, low, high, _ = score_means(resolve_metric("ood_auroc"), asked(*drawn()))
    assert low < value < high


def test_what_is_not_asked_or_not_there_is_said() -> None:
    means = asked(*drawn())
    with pytest.raises(MissingCells, match="lacking imagenet-o"):
        ood_aupr(CellMeans(means.suite, means.data, 1000, {**means.cells, ("imagenet-o", ""): None}, means.resampler))
    with pytest.raises(NotApplicable, match="has no 'val-of-imagenet-o'"):
        ood_aupr(CellMeans(means.suite, means.data, 1000, {("imagenet-o", ""): means.cells["imagenet-o", ""]}, means.resampler))


def test_the_gap_is_what_accuracy_loses() -> None:
    resampler = Resampler()
    keys = [resampler([f"{name}{i}" for i in range(10)]).key for name in "ab"]
    cells = {
        ("imagenet-r", ""): Values(keys[0], np.r_[np.ones(6), np.zeros(4)]),
        ("val-of-imagenet-r", ""): Values(keys[1], np.r_[np.ones(2), np.zeros(8)]),
    }
    assert accuracy_gap(CellMeans("s", "imagenet", 1000, cells, resampler), shift="imagenet-r")[0] == pytest.approx(0.4)
