"""Retention, dependence on high frequencies, and the challenge, by hand."""

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.background_challenge import challenge_accuracy
from robustvit.metrics.background_gap import background_retention, foreground_retention, foreground_retention_top5
from robustvit.metrics.corruption import EXTRA, SEVERITIES, alexnet, mean_err_19
from robustvit.metrics.frequency import hf_dependence
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.resamples import Resampler, Resamples


def means(**right: int) -> CellMeans:
    """Cells of ten samples, so many of them correct; `low_pass_32` is the cell of that severity."""
    resampler = Resampler()
    key = resampler([str(i) for i in range(10)]).key
    cells = {}
    for name, count in right.items():
        scenario, _, severity = name.rpartition("_") if name[-1].isdigit() else (name, "", "")
        cells[scenario, severity] = Values(key, np.r_[np.zeros(count), np.ones(10 - count)])
    return CellMeans("mine", "imagenet", 1000, cells, resampler)


def test_retention_divides_by_the_accuracy_on_whole_images() -> None:
    found = means(full=8, foreground=6, background=2)
    assert foreground_retention(found)[0] == pytest.approx(6 / 8)
    assert background_retention(found)[0] == pytest.approx(2 / 8)


def test_retention_of_top5_is_of_correct_shares() -> None:
    assert foreground_retention_top5(means(full=8, foreground=9))[0] == pytest.approx(
        1 / 2
    )  # the cells hold top5 here, 1 where it is correct


def test_retention_of_nothing_is_not_defined() -> None:
    with pytest.raises(NotApplicable, match="no whole image"):
        foreground_retention(means(full=0, foreground=3))


def test_a_resample_without_correct_predictions_is_left_out() -> None:
    found = background_retention(means(full=1, background=1))
    assert 0 < np.isnan(found[1:]).sum() < len(found) - 1
    assert set(found[~np.isnan(found)]) == {1.0}


def test_what_high_frequencies_carry_is_lost_without_them() -> None:
    found = means(clean=8, low_pass_32=2, low_pass_112=8)
    assert hf_dependence(found)[0] == pytest.approx(0.75)
    with pytest.raises(NotApplicable, match="no higher frequency"):
        hf_dependence(found, radius=112.0)
    with pytest.raises(NotApplicable, match="no clean sample"):
        hf_dependence(means(clean=0, low_pass_32=2))


def test_challenge_accuracy_is_the_share_that_stands_with_wilsons_interval() -> None:
    rows = pd.DataFrame({"sample": [f"{i:04}" for i in range(4050)], "value_robust": np.arange(4050) >= 3239})
    found = score(resolve_metric("challenge_accuracy"), rows, Resamples(list(rows["sample"])))
    assert found.value == pytest.approx(20.02, abs=0.005)  # 3,239 of 4,050 are vulnerable for ViT-L/16
    assert (found.n, challenge_accuracy(rows).sum()) == (4050, 811)
    assert 18.8 < found.low < found.value < found.high < 21.3


def test_the_mean_of_nineteen_counts_the_extra_ones() -> None:
    resampler = Resampler()
    key = resampler([str(i) for i in range(10)]).key
    wrong = {name: 5 if name in EXTRA else 1 for name in (*alexnet()["ce_mean"], *EXTRA)}
    cells = {(name, level): Values(key, np.r_[np.ones(k), np.zeros(10 - k)]) for name, k in wrong.items() for level in SEVERITIES}
    assert mean_err_19(CellMeans("mine", "imagenet", 1000, cells, resampler))[0] == pytest.approx((15 * 0.1 + 4 * 0.5) / 19)
