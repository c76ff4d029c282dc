"""Flip rates and top-5 distances by hand, and against the definition in ranks of all classes."""

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.corruption import alexnet
from robustvit.metrics.flips import distances, flip_rate, mean_flip_rate, mfr_alexnet, mt5d, top5_distance
from robustvit.spec.written.call import called
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.resamples import Resampler


def swapped(*places: tuple[int, int], classes: int = 1000) -> np.ndarray:
    """The classes in order of their score after some have changed places (counted from 1)."""
    order = np.arange(classes)
    for a, b in places:
        order[[a - 1, b - 1]] = order[[b - 1, a - 1]]
    return order


@pytest.mark.parametrize(
    ("places", "expected"),
    [([(1, 2)], 2), ([(1, 5)], 8), ([(1, 6)], 5), ([(5, 6)], 1), ([(1, 1000)], 5), ([(6, 7)], 0), ([(i, i + 5) for i in range(1, 6)], 15)],
)
def test_the_distance_of_two_orders_is_that_of_the_protocol(places: list[tuple[int, int]], expected: int) -> None:
    assert distances(np.arange(5)[None], swapped(*places)[None, :5]).tolist() == [expected]


def test_the_distance_is_that_of_ranks_of_all_classes() -> None:
    rng = np.random.default_rng(0)
    then, now = (np.array([rng.permutation(12) for _ in range(200)]) for _ in range(2))
    ranks = np.argsort(now, axis=1)  # of each class, from 0
    moved = np.minimum(np.take_along_axis(ranks, then, axis=1)[:, :5], 5)
    assert distances(then[:, :5], now[:, :5]).tolist() == np.abs(moved - np.arange(5)).sum(axis=1).tolist()


def clips(answers: dict[str, list[int]], against: list[int]) -> pd.DataFrame:
    """Records of clips with these predictions per frame."""
    rows = [
        {"sample": f"{name}#{t}", "pred": pred, "against": against[t], "top5": [pred, 90, 91, 92, 93]}
        for name, preds in answers.items()
        for t, pred in enumerate(preds)
    ]
    return pd.DataFrame(rows)


def test_noise_is_compared_with_the_first_frame() -> None:
    answer = flip_rate(clips({"a": [1, 2, 2, 1], "b": [3, 3, 3, 3]}, [-1, 0, 0, 0]))
    assert (list(answer.ids), answer.values.tolist()) == (["a", "b"], [pytest.approx(2 / 3), 0.0])


def test_a_sequence_is_compared_frame_by_frame() -> None:
    assert flip_rate(clips({"a": [1, 2, 2, 1]}, [-1, 0, 1, 2])).values.tolist() == [pytest.approx(2 / 3)]


def test_interleaved_steps_are_pooled_within_a_clip() -> None:
    answer = flip_rate(clips({"a": [1, 2, 1, 2, 5]}, [-1, -1, 0, 1, 2]))
    assert answer.values.tolist() == [pytest.approx(1 / 3)]


def test_frame_ten_is_not_taken_for_frame_one() -> None:
    answer = flip_rate(clips({"a": [0] * 10 + [1] * 2}, [-1, *range(11)]))
    assert answer.values.tolist() == [pytest.approx(1 / 11)]


def test_a_clip_that_is_not_whole_counts_the_pairs_there_are() -> None:
    rows = clips({"a": [1, 2, 2, 1], "b": [1, 1, 1, 1]}, [-1, 0, 1, 2])
    assert flip_rate(rows.drop(index=[1, 5, 6, 7])).values.tolist() == [1.0]


def test_the_interval_is_over_clips() -> None:
    rows = clips({f"c{i}": [0, i % 2] * 8 for i in range(40)}, [-1, *range(15)])
    resampler = Resampler()
    found = score(resolve_metric("flip_rate"), rows, resampler(rows["sample"].tolist()), resampler)
    assert (found.value, found.n) == (50.0, 40)
    assert 30 < found.low < 45 < 55 < found.high < 70


def test_distances_are_averaged_over_a_clip() -> None:
    answer = top5_distance(clips({"a": [1, 2, 2, 2]}, [-1, 0, 1, 2]))
    assert answer.values.tolist() == [pytest.approx(5 / 3)]


def graded(rates: dict[str, float], data: str = "imagenet") -> CellMeans:
    resampler = Resampler()
    key = resampler([str(i) for i in range(4)]).key
    return CellMeans("imagenet-p", data, 1000, {(name, "1"): Values(key, np.full(4, rate)) for name, rate in rates.items()}, resampler)


def test_alexnet_has_an_mfr_of_one_hundred() -> None:
    means = graded(alexnet()["flip_rate"])
    assert 100 * mfr_alexnet(means)[0] == pytest.approx(100.0, abs=1e-9)
    assert mean_flip_rate(means)[0] == pytest.approx(0.140463, abs=1e-6)


def test_off_imagenet_there_is_no_mfr() -> None:
    with pytest.raises(NotApplicable, match="digits"):
        mfr_alexnet(graded(alexnet()["flip_rate"], "digits"))


def test_there_is_no_mt5d_without_a_baseline() -> None:
    means = graded(dict.fromkeys(alexnet()["flip_rate"], 2.0), "digits")
    with pytest.raises(NotApplicable, match="give a baseline"):
        mt5d(means)
    with pytest.raises(NotApplicable, match="it has 3"):
        mt5d(means, baseline=(1.0, 2.0, 3.0))
    assert mt5d(means, baseline=(4.0,) * 10)[0] == pytest.approx(0.5)


def test_a_baseline_is_given_in_a_line() -> None:
    asked = resolve_metric(called("mt5d?baseline=4,4,4,4,4,4,4,4,4,4", "metric"))
    assert score_means(asked, graded(dict.fromkeys(alexnet()["flip_rate"], 2.0))).value == pytest.approx(50.0)
