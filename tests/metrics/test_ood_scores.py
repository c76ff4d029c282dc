"""Detection of out-of-distribution images by a score, against scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from robustvit.errors import NotApplicable
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import IntervalEstimate, resolve_metric
from robustvit.statistics.resamples import Resamples

SETS = {"": 240, "near/ninco": 50, "far/textures": 70}


def rows(digits: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    facts = np.repeat(list(SETS), list(SETS.values()))
    values = np.round(rng.normal(size=len(facts)) + 1.2 * (facts != ""), digits)
    return pd.DataFrame({"sample": [f"s{i:03}" for i in range(len(facts))], "fact_ood": facts, "value_ood_energy": values})


def detected(name: str, sets: str, records: pd.DataFrame, which: str = "energy") -> IntervalEstimate:
    asked = resolve_metric({name: {"score": which, "sets": sets}})
    return score(asked, records, Resamples(records["sample"].tolist()))


def chosen(sets: str, records: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    kept = records[records["fact_ood"].str.startswith(sets) | records["fact_ood"].str.endswith(sets) | (records["fact_ood"] == "")]
    return np.asarray(kept["fact_ood"] != ""), np.asarray(kept["value_ood_energy"])


@pytest.mark.parametrize("digits", [12, 1])
@pytest.mark.parametrize("sets", ["near", "far", "textures"])
def test_areas_are_those_of_scikit_learn_ties_included(sets: str, digits: int) -> None:
    truth, values = chosen(sets, rows(digits))
    auroc, aupr = (detected(f"ood_score_{name}", sets, rows(digits)) for name in ("auroc", "aupr"))
    assert auroc.value == pytest.approx(100 * roc_auc_score(truth, values), abs=1e-9)
    assert aupr.value == pytest.approx(100 * average_precision_score(truth, values), abs=1e-9)
    assert auroc.n == aupr.n == len(truth)


@pytest.mark.parametrize("digits", [12, 1])
@pytest.mark.parametrize("sets", ["near", "far"])
def test_the_false_positive_rate_is_that_of_the_lowest_threshold_that_accepts_ninety_five_percent(sets: str, digits: int) -> None:
    truth, values = chosen(sets, rows(digits))
    accepted = next(t for t in sorted(values[~truth]) if (values[~truth] <= t).mean() >= 0.95)
    expected = 100 * (values[truth] <= accepted).mean()
    assert detected("ood_score_fpr95", sets, rows(digits)).value == pytest.approx(expected)


def test_scores_that_separate_reach_the_ends() -> None:
    apart = rows().assign(value_ood_energy=lambda table: (table["fact_ood"] != "") * 1.0)
    found = [detected(f"ood_score_{name}", "near", apart).value for name in ("auroc", "aupr", "fpr95")]
    assert found == [100.0, 100.0, 0.0]


def test_the_interval_surrounds_the_value() -> None:
    for name in ("auroc", "aupr", "fpr95"):
        value, low, high, _ = detected(f"ood_score_{name}", "near", rows())
        assert low < value < high


def test_replicates_are_of_resampled_images_of_both_kinds() -> None:
    records = rows()
    asked = resolve_metric({"ood_score_auroc": {"score": "energy", "sets": "far"}})
    weights = Resamples(records["sample"].tolist()).weights[:5]
    kept = np.asarray(~records["fact_ood"].str.startswith("near"))
    truth, values = chosen("far", records)
    expected = [roc_auc_score(truth, values, sample_weight=row[kept]) for row in weights]
    assert asked.of_cell(records).of(weights) == pytest.approx(expected, abs=1e-9)


def test_a_resample_of_one_kind_has_no_value() -> None:
    records = rows()
    of = resolve_metric({"ood_score_auroc": {"score": "energy", "sets": "near"}}).of_cell(records).of
    alone = (records["fact_ood"] == "").to_numpy(dtype=np.float32)[None]
    assert np.isnan(of(alone)).all()


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(NotApplicable, match="no image is of the set 'nin'; the data has far/textures, near/ninco"):
        detected("ood_score_auroc", "nin", rows())
    with pytest.raises(NotApplicable, match="no image is of the set ''"):
        detected("ood_score_auroc", "", rows())
    with pytest.raises(NotApplicable, match="images of the data set and of 'near'; here are 0 and 50"):
        detected("ood_score_auroc", "near", rows()[240:].reset_index(drop=True))


def test_a_model_without_features_has_no_value_and_the_reason() -> None:
    with pytest.raises(NotApplicable, match="'energy' is a score of penultimate features, which this model does not show"):
        detected("ood_score_auroc", "near", rows().assign(value_ood_energy=np.nan))


def test_a_metric_reads_the_column_of_its_score() -> None:
    asked = resolve_metric({"ood_score_auroc": {"score": "vim", "sets": "near"}})
    assert asked.entry.needs == ("value_ood_vim", "fact_ood")
    assert not asked.applies(rows().columns.tolist())
