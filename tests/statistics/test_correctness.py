"""How often samples are right, and the metrics that count it."""

import numpy as np
import pandas as pd
import pytest

from robustvit.statistics.cell_estimates import score
from robustvit.statistics.correctness import correct_share
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.resamples import Resampler

ONCE = pd.DataFrame({"sample": list("abcd"), "label": [0, 1, 0, 1], "pred": [0, 1, 1, 1], "attacked": [True, True, True, False]})
DRAWN = ONCE.assign(draws=10, draws_right=[5, 10, 0, 4])


def test_a_deterministic_model_is_right_or_wrong() -> None:
    assert correct_share(ONCE).tolist() == [1.0, 1.0, 0.0, 1.0]


def test_a_random_model_counts_with_the_share_of_its_new_draws() -> None:
    assert correct_share(DRAWN).tolist() == [0.5, 1.0, 0.0, 0.4]


def test_rows_without_draws_beside_others_count_once() -> None:
    assert correct_share(DRAWN.assign(draws=[10, np.nan, 10, np.nan])).tolist() == [0.5, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("metric", "value", "n"), [("top1", 47.5, 4), ("error", 52.5, 4), ("robust_accuracy", 37.5, 4), ("attack_success", 50, 3)]
)
def test_metrics_count_the_new_draws(metric: str, value: float, n: int) -> None:
    found = score(resolve_metric(metric), DRAWN, Resampler()(DRAWN["sample"].tolist()))
    assert found.value == pytest.approx(value)
    assert found.n == n
    assert found.low < found.value < found.high


def test_the_interval_of_the_mean_share_covers_samples_and_draws() -> None:
    generator, truth, covered = np.random.default_rng(0), 0.5, 0
    for _ in range(100):
        chance = generator.beta(1.0, 1.0, 60)
        rows = pd.DataFrame(
            {"sample": [str(i) for i in range(60)], "label": 0, "pred": 0, "draws": 10, "draws_right": generator.binomial(10, chance)}
        )
        found = score(resolve_metric("top1"), rows, Resampler()(rows["sample"].tolist()))
        covered += found.low <= 100 * truth <= found.high
    assert covered >= 88
