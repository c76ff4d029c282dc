import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.attack import (
    attack_success,
    fooling_rate,
    patch_fooling_rate,
    robust_accuracy,
    robust_accuracy_at,
    robust_accuracy_same_draw,
    target_success_rate,
)
from robustvit.statistics.metric_context import MetricContext

RECORDS = pd.DataFrame({"label": [0, 0, 0, 0, 0], "pred": [0, 1, 1, 0, 1], "attacked": [True, True, True, True, False]})


def test_robust_accuracy_divides_by_all_samples() -> None:
    assert robust_accuracy(RECORDS).mean() == 2 / 5


def test_the_attacks_own_finding_counts_its_draw_alone_beside_the_share_of_new_draws() -> None:
    rows = RECORDS.assign(draws=[10.0, 10.0, 10.0, 10.0, np.nan], draws_right=[10.0, 4.0, 0.0, 6.0, np.nan])
    assert robust_accuracy_same_draw(rows).tolist() == [1, 0, 0, 1, 0]
    assert robust_accuracy(rows).tolist() == [1, 0.4, 0, 0.6, 0]
    assert robust_accuracy_same_draw(rows.assign(pred=rows["label"])).tolist() == [1, 1, 1, 1, 0]  # the last was wrong before the attack


def test_attack_success_divides_by_the_attacked() -> None:
    assert np.nanmean(attack_success(RECORDS)) == 2 / 4
    assert np.isnan(attack_success(RECORDS)).tolist() == [False, False, False, False, True]


def test_both_denominators_tell_one_story() -> None:
    clean, success = RECORDS["attacked"].mean(), np.nanmean(attack_success(RECORDS))
    assert robust_accuracy(RECORDS).mean() == clean * (1 - success)


def test_a_curve_over_radii_falls_where_the_nearest_examples_are() -> None:
    rows = RECORDS.assign(l2=[0.0, 0.5, 2.0, 0.0, 0.0], linf=0.1, l1=1.0, l0=3.0)
    curve = [robust_accuracy_at(rows, MetricContext(), eps=eps).mean() for eps in (0.0, 0.49, 0.5, 1.9, 2.0)]
    assert curve == [4 / 5, 4 / 5, 3 / 5, 3 / 5, 2 / 5]
    assert robust_accuracy_at(rows, MetricContext(), eps=9.0).mean() == robust_accuracy(rows).mean()


def test_a_curve_is_not_made_of_an_attack_that_had_a_radius() -> None:
    rows = pd.DataFrame({"label": [0], "pred": [1], "attacked": [True], "linf": [0.1], "l2": [1.0], "l1": [3.0], "l0": [9.0]})
    assert robust_accuracy_at(rows, MetricContext(), eps=2.0).tolist() == [0.0]
    with pytest.raises(NotApplicable, match="searched inside 4/255 only"):
        robust_accuracy_at(rows, MetricContext(radius="4/255"), eps=2.0)


def test_the_fooling_rate_divides_by_those_that_were_right_when_clean() -> None:
    rows = pd.DataFrame({"label": [0, 0, 0, 0, 0], "pred": [1, 0, 1, 0, 1], "clean_pred": [0.0, 0.0, 0.0, 1.0, np.nan]})
    assert np.nanmean(fooling_rate(rows)) == 2 / 3
    assert np.isnan(fooling_rate(rows)).tolist() == [False, False, False, True, True]


def test_on_an_attack_the_fooling_rate_is_its_success() -> None:
    rows = RECORDS.assign(clean_pred=[0, 0, 0, 0, 1])
    assert np.array_equal(fooling_rate(rows), attack_success(rows), equal_nan=True)


def test_the_fooling_rate_of_patches_is_a_mean_over_images_and_places() -> None:
    rows = pd.DataFrame({"value_fooled_share": [0.0, 0.5, 1.0, np.nan]})
    assert np.nanmean(patch_fooling_rate(rows)) == 0.5
    with pytest.raises(NotApplicable, match="position: every"):
        patch_fooling_rate(rows.iloc[3:])


def test_target_success_divides_by_all_samples_and_compares_with_each_samples_own_target() -> None:
    rows = pd.DataFrame({"label": [1, 5, 2, 804], "pred": [804, 5, 804, 804], "value_target": [804.0, 804.0, 513.0, 804.0]})
    assert target_success_rate(rows, MetricContext(classes=1000)).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("classes", [0, 10, 21_841])
def test_target_success_is_undefined_where_classes_are_not_those_of_the_targets(classes: int) -> None:
    rows = pd.DataFrame({"pred": [804], "value_target": [804.0]})
    with pytest.raises(NotApplicable, match=r"the 1,000 classes of ImageNet-1k"):
        target_success_rate(rows, MetricContext(classes=classes))
