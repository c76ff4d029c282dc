"""What metrics may return, and the estimates that follow."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import BadParameter, MissingCells, NotApplicable, UnknownName
from robustvit.spec.plugin import Entry
from robustvit.statistics.bootstrap_t import drawn_sums, studentised
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import Metric, Weighted, resolve_metric
from robustvit.statistics.intervals import Interval, accelerated, settled, wilson
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.resamples import Resampler, Resamples


def made(compute: object, **about: object) -> Metric:
    entry = Entry("metric", "made", "here", "made", (), "", "", 1, **about)  # type: ignore[arg-type]
    return Metric("made", entry, compute)  # type: ignore[arg-type]


RECORDS = pd.DataFrame({"sample": list("dcba"), "value_x": [4.0, 3.0, 2.0, 1.0]})


def test_zeros_and_ones_get_a_wilson_interval_in_the_unit() -> None:
    estimate = score(made(lambda rows: np.array([1.0, 1.0, 0.0, 1.0]), unit="%"), RECORDS, Resamples(list("dcba")))
    assert estimate == pytest.approx((75.0, 30.064, 95.441, 4))


def test_samples_left_out_leave_the_denominator() -> None:
    estimate = score(made(lambda rows: np.array([1.0, np.nan, 0.0, np.nan])), RECORDS, Resamples(list("dcba")))
    assert (estimate.value, estimate.n) == (0.5, 2)


def test_leaving_every_sample_out_has_no_value() -> None:
    with pytest.raises(NotApplicable, match="no sample counts"):
        score(made(lambda rows: np.full(4, np.nan)), RECORDS, Resamples(list("dcba")))


def test_metrics_see_rows_sorted_by_sample() -> None:
    seen = []
    score(made(lambda rows: seen.append(list(rows["sample"])) or np.ones(4)), RECORDS, Resamples(list("dcba")))
    assert seen == [list("abcd")]


def test_a_float_and_its_weighted_form_have_the_same_value_and_like_intervals() -> None:
    rows = pd.DataFrame({"sample": [f"s{i:03d}" for i in range(300)], "value_x": np.random.default_rng(0).exponential(size=300)})
    resamples = Resamples(list(rows["sample"]))
    values = rows["value_x"].to_numpy()
    slow = score(made(lambda r: float(r["value_x"].mean() ** 2)), rows, resamples)
    fast = score(made(lambda r: Weighted(lambda w: (w @ values / w.sum(axis=1)) ** 2)), rows, resamples)
    assert slow.value == pytest.approx(fast.value)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), rel=0.1)


def test_a_weighted_statistic_stays_in_its_range() -> None:
    estimate = score(
        made(lambda r: Weighted(lambda w: np.linspace(0.1, 0.1 + (len(w) > 1), len(w)) - 0.5 * (len(w) > 1), low=0.0, high=0.5)),
        RECORDS,
        Resamples(list("dcba")),
    )
    assert estimate[:3] == (0.1, 0.0, 0.5)


def test_a_weighted_share_that_never_varies_has_the_wilson_interval_of_what_it_counts() -> None:
    answer = Weighted(lambda w: np.where(w[:, 0] + w[:, 1] > 0, 1.0, np.nan), low=0.0, high=1.0, counted=2)
    estimate = score(made(lambda r: answer), RECORDS, Resamples(list("dcba")))
    assert (estimate.value, estimate.n) == (1.0, 2)
    assert (estimate.low, estimate.high) == settled(wilson(2, 2))


def test_an_average_of_weighted_shares_that_never_vary_has_their_wilson_interval() -> None:
    resampler = Resampler()
    key = resampler([f"s{i}" for i in range(50)]).key
    cells = {("fog", ""): Values(key, Weighted(lambda w: np.where(w[:, 0] > 3, np.nan, 0.0), low=0.0, high=1.0, counted=40))}
    found = score_means(made(lambda m: m.of("fog", [""]), over="model"), CellMeans("made", "made", 2, cells, resampler))
    assert (found.value, found.low, found.high) == (0.0, *settled(wilson(0, 40)))


def test_a_label_names_only_unusual_parameters() -> None:
    assert resolve_metric("ece").label == "ece"
    assert resolve_metric({"ece": {"bins": 15}}).label == "ece"
    assert resolve_metric({"ece": {"bins": 30}}).label == "ece(bins=30)"


def test_unknown_metrics_and_parameters_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="top1"):
        resolve_metric("top11")
    with pytest.raises(BadParameter, match="bins"):
        resolve_metric({"ece": {"bin": 3}})


def errors_of(n: int = 200, **share: float) -> CellMeans:
    rng, resampler = np.random.default_rng(0), Resampler()
    resamples = resampler([f"s{i}" for i in range(n)])
    cells = {(name, "1"): Values(resamples.key, (rng.random(n) < chance).astype(float)) for name, chance in share.items()}
    return CellMeans("made-up", "digits", 10, cells, resampler)


def test_averages_share_their_resamples() -> None:
    errors = errors_of(fog=0.3, snow=0.6)
    weights = next(iter(errors.resampler._by_key.values())).weights
    both = np.stack([weights @ errors.cells[name, "1"].values / 200 for name in ("fog", "snow")]).mean(axis=0)  # type: ignore[union-attr]
    assert errors.each(["fog", "snow"]).mean(axis=0)[1:] == pytest.approx(both, abs=1e-12)


def test_an_average_of_a_weighted_statistic_is_that_of_its_mean() -> None:
    errors = errors_of(fog=0.3, snow=0.6)
    key, values = errors.cells["snow", "1"].key, errors.cells["snow", "1"].values  # type: ignore[union-attr]
    weighted = Values(key, Weighted(lambda weights: (weights @ values) / weights.sum(axis=1)))
    mixed = replace(errors, cells={**errors.cells, ("snow", "1"): weighted})
    assert mixed.each(["fog", "snow"]) == pytest.approx(errors.each(["fog", "snow"]), abs=1e-6)
    assert mixed.n() == 200


def test_an_average_of_squares_lies_in_its_interval() -> None:
    """Thirty cells of 50 samples: each square is lifted by resampling, all alike, and more than their average varies."""
    resampler, rng = Resampler(), np.random.default_rng(0)
    cells: dict[tuple[str, str], Values | None] = {}
    for cell in range(30):
        x = rng.normal(size=50)
        key = resampler([f"{cell}/{i}" for i in range(50)]).key
        cells[str(cell), ""] = Values(key, Weighted(lambda weights, x=x: (weights @ x / 50) ** 2, low=0.0, centred=True))
    means = CellMeans("made", "made", 2, cells, resampler)
    found = score_means(made(lambda m: np.mean([m.of(name, [""]) for name, _ in cells], axis=0), over="model"), means)
    assert 0.0 <= found.low < found.value < found.high


def test_a_paired_average_keeps_what_its_cells_have_in_common() -> None:
    """Cells that are misclassified on complementary samples: their mean error is 1/2 in every resample, which unpaired intervals miss."""
    errors = errors_of(fog=0.3)
    key, values = errors.cells["fog", "1"].key, errors.cells["fog", "1"].values  # type: ignore[union-attr]
    both = CellMeans("made-up", "digits", 10, {**errors.cells, ("snow", "1"): Values(key, 1 - values)}, errors.resampler)
    assert both.each(["fog", "snow"]).mean(axis=0) == pytest.approx(np.full(501, 0.5))
    assert np.ptp(both.of("fog")) > 0.1


def test_a_missing_cell_is_named_and_counted() -> None:
    errors = errors_of(fog=0.3)
    lacking = CellMeans("made-up", "digits", 10, {**errors.cells, ("snow", "1"): None, ("snow", "2"): None}, errors.resampler)
    with pytest.raises(MissingCells, match="1 of 3 cells; lacking snow 1, snow 2"):
        lacking.each(["fog", "snow"])


def test_a_cell_that_nobody_asked_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="has 1 of the 2 cells"):
        errors_of(fog=0.3).each(["fog"], ["1", "2"])


def test_cells_with_other_samples_are_not_averaged() -> None:
    one = errors_of(fog=0.3)
    other = one.resampler(["x", "y"])
    mixed = CellMeans("made-up", "digits", 10, {**one.cells, ("fog", "2"): Values(other.key, np.zeros(2))}, one.resampler)
    with pytest.raises(MissingCells, match="different samples"):
        mixed.of("fog")


def test_where_nothing_varies_an_average_has_the_wilson_interval_of_its_cells() -> None:
    errors = errors_of(fog=0.0, snow=0.0)
    value, low, high, n = score_means(resolve_metric("corruption_error"), errors, "fog")
    assert (value, low, n) == (0.0, 0.0, 200)
    assert high == pytest.approx(100 * wilson(0.0, 200).high, rel=1e-2)
    assert score_means(resolve_metric("mean_corruption_error"), errors).high == pytest.approx(high)


def test_of_one_cell_an_average_has_the_interval_of_the_cell() -> None:
    errors = errors_of(fog=0.3)
    assert score_means(resolve_metric("corruption_error"), errors, "fog")[1:3] == pytest.approx(
        [100 * end for end in wilson(200 * errors.of("fog")[0], 200)], rel=1e-4
    )


def test_an_average_of_cells_of_the_same_samples_has_the_studentised_interval_of_what_samples_have_on_average() -> None:
    errors = errors_of(fog=0.3, snow=0.6, frost=0.9)
    values = np.mean([found.values for found in errors.cells.values() if found is not None], axis=0)
    weights = errors.resampler.of(next(iter(errors.cells.values())).key).weights  # type: ignore[union-attr]
    expected = studentised(values, drawn_sums(values, weights), 0.0, 1.0)
    assert score_means(resolve_metric("mean_corruption_error"), errors)[1:3] == pytest.approx([100 * end for end in expected], rel=1e-4)


def test_a_share_of_samples_that_never_varies_has_wilsons_interval_where_a_metric_weights_samples_itself() -> None:
    errors = errors_of(fog=0.5)
    found = score_means(made(lambda m: np.ones(1 + len(m.resampler.of(m.cells["fog", "1"].key).weights)), over="model", unit="%"), errors)
    assert found[:3] == (100.0, *settled(Interval(*(100 * end for end in wilson(200, 200)))))


def of_different_images(first: np.ndarray, second: np.ndarray) -> CellMeans:
    resampler = Resampler()
    keys = [resampler([f"{place}/{i}" for i in range(len(values))]).key for place, values in enumerate((first, second))]
    cells = {("mixed_same", ""): Values(keys[0], first), ("mixed_rand", ""): Values(keys[1], second)}
    return CellMeans("made", "imagenet", 10, cells, resampler)


def test_a_difference_of_two_shares_of_different_images_has_newcombes_interval() -> None:
    """Newcombe 1998, table II, example (a): 56/70 less 48/80 is 0.2 with the interval 0.0524 to 0.3339 (method 10)."""
    gap = of_different_images(np.r_[np.zeros(56), np.ones(14)], np.r_[np.zeros(48), np.ones(32)])
    assert score_means(resolve_metric("background_gap"), gap)[:3] == pytest.approx((20.0, 5.24, 33.39), abs=0.01)


def test_a_gap_of_which_one_side_never_errs_is_as_wide_as_that_side_leaves_open() -> None:
    one_sided = score_means(resolve_metric("background_gap"), of_different_images(np.zeros(50), np.r_[np.zeros(25), np.ones(25)]))
    share = wilson(25, 50)
    assert one_sided.low == pytest.approx(50 - 100 * np.hypot(0.5 - share.low, wilson(0, 50).high), abs=0.01)
    assert one_sided.high == pytest.approx(100 * share.high, abs=0.01)


@pytest.mark.parametrize(
    "statistic", [lambda m: m.of("fog") ** 2, lambda m: m.of("fog") / m.of("snow"), lambda m: np.minimum(0.5, m.of("fog"))]
)
def test_of_anything_but_a_weighted_sum_resampling_gives_the_interval(statistic: Callable[[CellMeans], np.ndarray]) -> None:
    errors = errors_of(fog=0.5, snow=0.6)
    result = statistic(errors)
    found = score_means(made(statistic, over="model"), errors)
    assert found[1:3] == settled(accelerated(result[0], result[1:], 200))


def test_zeros_and_ones_of_a_measurement_are_measured_and_not_counted() -> None:
    rows = pd.DataFrame({"sample": [f"s{i:02}" for i in range(32)], "label": 0, "vote": 0, "patch_held": [1] * 4 + [0] * 28})
    found = score(resolve_metric("largest_patch_by_place"), rows, Resampler()(rows["sample"].tolist()))
    assert found.value == 0.125
    assert 0.0 <= found.low < 0.05  # Wilson's would begin at 0.0497
    assert score(resolve_metric("largest_patch_by_place"), rows.assign(patch_held=0.3), Resampler()(rows["sample"].tolist()))[
        :3
    ] == pytest.approx((0.3, 0.3, 0.3))
