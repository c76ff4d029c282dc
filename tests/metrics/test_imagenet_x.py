from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustvit.data.annotations.imagenet_x import FACTORS
from robustvit.errors import NotApplicable
from robustvit.metrics.imagenet_x import factor_error_ratio
from robustvit.spec import registry
from robustvit.spec.suite_file import read_suite

SUITES = Path(__file__).resolve().parents[2] / "suites"


def rows(wrong, pose):
    return pd.DataFrame({"label": 0, "pred": wrong, "fact_pose": pose, "fact_style": 0})


def test_the_ratio_is_the_error_with_the_factor_over_the_error_of_all_annotated_images() -> None:
    found = factor_error_ratio(rows(wrong=[1, 1, 0, 1, 0, 0, 1], pose=[1, 1, 1, 0, 0, 0, -1]), factor="pose")
    assert found.of(np.ones((1, 7))).tolist() == pytest.approx([(2 / 3) / (3 / 6)])
    assert found.counted == 3


def test_a_weight_counts_an_image_as_often() -> None:
    records = rows(wrong=[1, 0, 1, 0], pose=[1, 1, 0, 0])
    repeated = rows(wrong=[1, 1, 1, 0, 1, 0], pose=[1, 1, 1, 1, 0, 0])
    weighted = factor_error_ratio(records, factor="pose").of(np.array([[3.0, 1.0, 1.0, 1.0]]))
    assert weighted.tolist() == pytest.approx(factor_error_ratio(repeated, factor="pose").of(np.ones((1, 6))).tolist())


@pytest.mark.parametrize(
    ("wrong", "factor", "reason"), [([1, 0], "style", "no image has the factor style"), ([0, 0], "pose", "no image is misclassified")]
)
def test_without_the_factor_or_a_mistake_there_is_no_ratio(wrong, factor, reason) -> None:
    with pytest.raises(NotApplicable, match=reason):
        factor_error_ratio(rows(wrong=wrong, pose=[1, 0]), factor=factor)


def test_the_suite_and_the_metric_know_all_factors_of_the_data() -> None:
    entry = registry.lookup("metric", "factor_error_ratio")
    assert entry.params[0].hint.choices == FACTORS
    assert set(entry.needs) == {"label", "pred", *(f"fact_{factor}" for factor in FACTORS)}
    metrics = read_suite(SUITES / "imagenet-x.yaml").metrics
    assert [dict(spec.params)["factor"] for spec in metrics[1:]] == list(FACTORS)
