import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.calibration import aurra, ece, rms_calibration_error


def table(confidence: list[float], right: list[int]) -> pd.DataFrame:
    n = len(right)
    return pd.DataFrame({"confidence": np.array(confidence, np.float32), "label": np.zeros(n, int), "pred": 1 - np.array(right)})


def value(records: pd.DataFrame, bins: int = 15) -> float:
    return float(ece(records, bins=bins).of(np.ones((1, len(records))))[0])


def test_ece_agrees_with_a_table_worked_by_hand() -> None:
    # two bins: (0, .5] holds .4 wrong and .5 right: |.5 - .45| * 2/5; (.5, 1] holds .6 right, .8 wrong, 1 right: |2/3 - .8| * 3/5
    records = table([0.4, 0.5, 0.6, 0.8, 1.0], [0, 1, 1, 0, 1])
    assert value(records, bins=2) == pytest.approx(0.05 * 2 / 5 + (0.8 - 2 / 3) * 3 / 5, abs=1e-6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    # in (.1, .2] alone, .2 right and .15 wrong make |.5 - .175|; on either side of the edge they would make (.8 + .15) / 2
    assert value(table([0.2, 0.15], [1, 0]), bins=10) == pytest.approx(0.325, abs=1e-6)


def test_ece_agrees_with_a_plain_loop_over_bins() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.uniform(0.01, 1, 500).astype(np.float32), rng.integers(0, 2, 500)
    expected = 0.0
    for i in range(15):
        inside = (confidence > np.float32(i / 15)) & (confidence <= np.float32((i + 1) / 15))
        expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert value(table(list(confidence), list(right))) == pytest.approx(expected, abs=1e-6)


def test_weights_stand_for_repeated_rows() -> None:
    records = table([0.4, 0.5, 0.6, 0.8, 1.0], [0, 1, 1, 0, 1])
    weights = np.array([2, 0, 1, 1, 3])
    repeated = records.iloc[np.repeat(np.arange(5), weights)]
    assert ece(records).of(weights[None].astype(float))[0] == pytest.approx(value(repeated), abs=1e-6)


def test_one_bin_gives_the_gap_of_means() -> None:
    records = table([0.9, 0.7, 0.8], [1, 0, 0])
    assert value(records, bins=1) == pytest.approx(abs(1 / 3 - 0.8), abs=1e-6)


def likely(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.2, 1.0, n)
    return pd.DataFrame({"label": 0, "pred": (rng.random(n) > confidence).astype(int), "confidence": confidence})


def test_the_rms_error_skips_the_last_bin_as_its_authors_do() -> None:
    """Bin by bin, in the words of the definition: n // beta bins, the last one running to the end and left out."""
    rows = likely(1050)
    ranked = rows.sort_values("confidence", kind="stable")
    total = 0.0
    for start in range(0, 900, 100):
        part = ranked.iloc[start : start + 100]
        total += 100 / 1050 * (part["confidence"].mean() - (part["pred"] == part["label"]).mean()) ** 2
    assert rms_calibration_error(rows) == pytest.approx(np.sqrt(total), abs=1e-12)


def test_the_rms_error_needs_two_bins() -> None:
    with pytest.raises(NotApplicable, match="at least 200 samples"):
        rms_calibration_error(likely(199))


def test_the_response_rate_area_by_hand() -> None:
    rows = pd.DataFrame({"label": [0, 0, 0, 0], "pred": [0, 1, 0, 1], "confidence": [0.9, 0.8, 0.7, 0.6]})
    assert aurra(rows) == pytest.approx((1 + 1 / 2 + 2 / 3 + 2 / 4) / 4)
    assert aurra(rows.iloc[::-1]) == pytest.approx(aurra(rows))
