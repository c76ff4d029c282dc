import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from robustvit.errors import BadParameter, NotApplicable
from robustvit.metrics.confidence.calibration import ece, temperature
from robustvit.metrics.confidence.ranked_confidence import aurra, rms_calibration_error
from robustvit.spec import registry
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import Weighted, resolve_metric
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resamples


def table(confidence: list[float], right: list[int]) -> pd.DataFrame:
    n = len(right)
    return pd.DataFrame({"confidence": np.array(confidence, np.float32), "label": np.zeros(n, int), "pred": 1 - np.array(right)})


def value(records: pd.DataFrame, bins: int = 15) -> float:
    return once(ece(records, bins=bins), records)


def once(answer: Weighted, records: pd.DataFrame) -> float:
    return float(answer.of(np.ones((1, len(records))))[0])


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
    assert once(rms_calibration_error(rows), rows) == pytest.approx(np.sqrt(total), abs=1e-12)


def test_the_rms_error_needs_two_bins() -> None:
    with pytest.raises(NotApplicable, match="at least 200 samples"):
        rms_calibration_error(likely(199))


def test_the_response_rate_area_by_hand() -> None:
    rows = pd.DataFrame({"label": [0, 0, 0, 0], "pred": [0, 1, 0, 1], "confidence": [0.9, 0.8, 0.7, 0.6]})
    assert once(aurra(rows), rows) == pytest.approx((1 + 1 / 2 + 2 / 3 + 2 / 4) / 4)
    assert once(aurra(rows.iloc[::-1]), rows) == pytest.approx(once(aurra(rows), rows))


@pytest.mark.parametrize("metric_of", [aurra, rms_calibration_error])
def test_a_resample_of_ranked_rows_is_the_metric_of_the_rows_drawn(metric_of: Callable[[pd.DataFrame], Weighted]) -> None:
    rows = likely(400)
    counts = np.bincount(np.random.default_rng(1).integers(0, 400, 400), minlength=400)
    drawn = rows.iloc[np.repeat(np.arange(400), counts)]
    assert metric_of(rows).of(counts[None].astype(np.float32))[0] == pytest.approx(once(metric_of(drawn), drawn), abs=1e-12)


def scored(n: int = 4000, true: float = 2.5, seed: int = 0) -> pd.DataFrame:
    """Labels drawn from softmax(logits / true): divided by that, the logits are calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)) * 4
    p = np.exp(logits / true)
    p /= p.sum(axis=1, keepdims=True)
    label = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    shown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return pd.DataFrame({
        "sample": [f"s{i:05d}" for i in range(n)], "label": label, "pred": logits.argmax(axis=1),
        "confidence": (shown / shown.sum(axis=1, keepdims=True)).max(axis=1), "logits": list(logits.astype(np.float32)),
    })  # fmt: skip


def test_temperature_scaling_finds_the_temperature_the_labels_were_drawn_at() -> None:
    rows = scored()
    assert temperature(np.stack(rows["logits"]).astype(float), rows["label"].to_numpy()) == pytest.approx(2.5, rel=0.05)
    plain, scaled = (score(resolve_metric(name), rows, Resamples(rows["sample"].tolist())) for name in ("ece", "ece_temperature"))
    assert plain.value > 15
    assert scaled.value < 4
    assert 1800 < scaled.n < 2200


def test_the_scored_half_is_not_the_one_the_temperature_is_fitted_on() -> None:
    """By a loop: T from the samples of one side, bins of the other."""
    rows = scored(600)
    side = np.array([hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1 for name in rows["sample"]], dtype=bool)
    logits, label = np.stack(rows["logits"]).astype(float), rows["label"].to_numpy()
    p = softmax(logits[side] / temperature(logits[~side], label[~side]), axis=1)
    own = pd.DataFrame({"label": label[side], "pred": p.argmax(axis=1), "confidence": p.max(axis=1)})
    assert score(resolve_metric("ece_temperature"), rows, Resamples(rows["sample"].tolist())).value == pytest.approx(
        100 * value(own), abs=1e-9
    )


def test_temperature_scaling_refuses_logits_that_are_not_of_the_predictions() -> None:
    rows = scored(50).assign(pred=0)
    with pytest.raises(NotApplicable, match="groups them"):
        score(resolve_metric("ece_temperature"), rows, Resamples(rows["sample"].tolist()))


def test_temperature_scaling_takes_the_logits_that_the_data_is_read_from() -> None:
    rows = scored(600)
    wide = rows.assign(logits=[np.r_[row[::-1], 99.0] for row in rows["logits"]])
    reading = MetricContext(reading_columns=[4, 3, 2, 1, 0])
    both = [
        score(resolve_metric("ece_temperature"), table, Resamples(table["sample"].tolist()), context=context)
        for table, context in ((rows, MetricContext()), (wide, reading))
    ]
    assert both[0] == pytest.approx(both[1])


BINNED = [name for name, entry in registry.entries("metric").items() if any(one.name == "bins" for one in entry.params)]


@pytest.mark.parametrize("name", BINNED)
def test_bins_that_no_memory_holds_are_refused(name: str) -> None:
    with pytest.raises(BadParameter, match="bins"):
        resolve_metric({name: {"bins": 100_000_000}})
