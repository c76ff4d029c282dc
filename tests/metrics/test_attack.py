import numpy as np
import pandas as pd

from robustvit.metrics.attack import attack_success, robust_accuracy

RECORDS = pd.DataFrame({"label": [0, 0, 0, 0, 0], "pred": [0, 1, 1, 0, 1], "attacked": [True, True, True, True, False]})


def test_robust_accuracy_divides_by_all_samples() -> None:
    assert robust_accuracy(RECORDS).mean() == 2 / 5


def test_attack_success_divides_by_the_attacked() -> None:
    assert np.nanmean(attack_success(RECORDS)) == 2 / 4
    assert np.isnan(attack_success(RECORDS)).tolist() == [False, False, False, False, True]


def test_both_denominators_tell_one_story() -> None:
    clean, success = RECORDS["attacked"].mean(), np.nanmean(attack_success(RECORDS))
    assert robust_accuracy(RECORDS).mean() == clean * (1 - success)
