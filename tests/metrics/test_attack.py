import numpy as np
import pandas as pd

from robustvit.metrics.attack import attack_success, robust_accuracy, robust_accuracy_at

RECORDS = pd.DataFrame({"label": [0, 0, 0, 0, 0], "pred": [0, 1, 1, 0, 1], "attacked": [True, True, True, True, False]})


def test_robust_accuracy_divides_by_all_samples() -> None:
    assert robust_accuracy(RECORDS).mean() == 2 / 5


def test_attack_success_divides_by_the_attacked() -> None:
    assert np.nanmean(attack_success(RECORDS)) == 2 / 4
    assert np.isnan(attack_success(RECORDS)).tolist() == [False, False, False, False, True]


def test_both_denominators_tell_one_story() -> None:
    clean, success = RECORDS["attacked"].mean(), np.nanmean(attack_success(RECORDS))
    assert robust_accuracy(RECORDS).mean() == clean * (1 - success)


def test_a_curve_over_radii_falls_where_the_nearest_examples_are() -> None:
    rows = RECORDS.assign(l2=[0.0, 0.5, 2.0, 0.0, 0.0], linf=0.1, l1=1.0, l0=3.0)
    curve = [robust_accuracy_at(rows, eps=eps).mean() for eps in (0.0, 0.49, 0.5, 1.9, 2.0)]
    assert curve == [4 / 5, 4 / 5, 3 / 5, 3 / 5, 2 / 5]
    assert robust_accuracy_at(rows, eps=9.0).mean() == robust_accuracy(rows).mean()
