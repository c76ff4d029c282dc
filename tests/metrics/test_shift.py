"""Signs: a gap is the loss of accuracy, positive where it is lower on the harder set."""

import numpy as np
import pandas as pd
import pytest

from robustvit.metrics.shift import background_gap, top1_1000way
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.resamples import Resampler


def test_the_background_gap_is_what_random_backgrounds_cost() -> None:
    resampler = Resampler()
    wrong = {"mixed_same": np.r_[np.ones(1), np.zeros(9)], "mixed_rand": np.r_[np.ones(4), np.zeros(6)]}
    cells = {(name, ""): Values(resampler([f"{name}/{i}" for i in range(10)]).key, values) for name, values in wrong.items()}
    assert background_gap(CellMeans("backgrounds", "imagenet-9", 9, cells, resampler))[0] == pytest.approx(0.3)


def test_the_reading_among_all_thousand_is_scored_by_its_own_predictions() -> None:
    rows = pd.DataFrame({"label": [0, 1, 2], "pred": [0, 1, 2], "pred_1000way": [0, 700, 2]})
    assert top1_1000way(rows).tolist() == [1.0, 0.0, 1.0]
