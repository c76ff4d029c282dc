"""Intervals against scipy, and Holm against a table worked by hand."""

import numpy as np
import pytest
from scipy import stats

from robustvit.statistics.bootstrap_t import Sums, studentised
from robustvit.statistics.intervals import REPLICATES, accelerated, holm, mean_of, paired, percentile, wilson
from robustvit.statistics.resamples import Resampler, Resamples


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (10, 10), (137, 500), (49_999, 50_000)])
def test_wilson_agrees_with_scipy(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_bootstrapped_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    resamples = Resamples([f"s{i}" for i in range(400)])
    ours = percentile(resamples.weights @ values / 400)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_replicates_that_drew_nothing_that_counts_are_left_out() -> None:
    known = np.random.default_rng(1).random(400)
    assert percentile(np.insert(known, [0, 7, 300], np.nan)) == percentile(known)


def test_resamples_depend_on_the_set_of_samples_alone() -> None:
    ids = [f"s{i}" for i in range(50)]
    shuffled = list(np.random.default_rng(0).permutation(ids))
    one, other = Resamples(ids), Resamples(shuffled)
    assert one.key == other.key
    assert np.array_equal(one.weights, other.weights)
    assert [ids[i] for i in one.order] == [shuffled[i] for i in other.order]


def test_other_samples_get_other_resamples() -> None:
    assert not np.array_equal(Resamples(["a", "b", "c"]).weights, Resamples(["a", "b", "d"]).weights)


def test_every_resample_draws_n_samples_evenly() -> None:
    weights = Resamples([str(i) for i in range(200)]).weights
    assert weights.shape == (REPLICATES, 200)
    assert (weights.sum(axis=1) == 200).all()
    assert weights.var() == pytest.approx(1.0, abs=0.05)  # a count is nearly Poisson(1)


def test_a_resampler_hands_out_the_same_object_again() -> None:
    resampler = Resampler()
    first = resampler(["b", "a"])
    assert resampler(["b", "a"]) is first
    assert resampler.of(first.key) is first


def sums_of(values: np.ndarray, ids: list[str]) -> Sums:
    return Sums(*(Resamples(ids).weights.astype(float) @ np.stack([np.ones(len(values)), values, values**2], axis=1)).T)


def test_an_accelerated_interval_agrees_with_the_jackknife_of_its_definition() -> None:
    """Efron's: the acceleration from leaving out one sample after another, the bias from the replicates below the value."""
    values = np.random.default_rng(1).exponential(size=300)
    replicates = Resamples([f"s{i}" for i in range(300)]).weights @ values / 300
    left_out = (values.sum() - values) / 299
    centred = left_out.mean() - left_out
    a, z0 = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5), stats.norm.ppf((replicates < values.mean()).mean())
    outermost = stats.t.ppf([0.025, 0.975], 299) * np.sqrt(300 / 299)
    at = [stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in outermost]
    expected = np.quantile(replicates, at, method="weibull")
    assert accelerated(values.mean(), replicates, 300) == pytest.approx(tuple(expected), abs=0.015)
    assert expected[1] > np.quantile(replicates, 0.975) + 0.015  # long tails are on the right


def test_an_accelerated_interval_of_replicates_that_do_not_vary_is_a_point() -> None:
    assert accelerated(0.5, np.full(100, 0.5), 50) == (0.5, 0.5)


def test_an_accelerated_interval_of_few_samples_is_wider_as_students_is() -> None:
    replicates = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    low, high = accelerated(0.0, replicates, 10)
    assert (low, high) == pytest.approx(np.array([-1, 1]) * stats.t.ppf(0.975, 9) * np.sqrt(10 / 9), abs=0.01)
    assert accelerated(0.0, replicates, 100_000) == pytest.approx(stats.norm.interval(0.95), abs=0.001)


def test_a_studentised_interval_is_that_of_t_statistics_by_hand() -> None:
    """A loop over drawn samples, each with its own mean and standard error."""
    values = np.random.default_rng(3).exponential(size=120)
    ids = [f"s{i:03d}" for i in range(120)]
    error = values.std(ddof=1) / np.sqrt(120)
    drawn = [np.repeat(values, counts.astype(int)) for counts in Resamples(ids).weights]
    t = [(one.mean() - values.mean()) / (one.std(ddof=1) / np.sqrt(120)) for one in drawn]
    low, high = (
        values.mean() - np.quantile(t, 0.975, method="weibull") * error,
        values.mean() - np.quantile(t, 0.025, method="weibull") * error,
    )
    assert studentised(values, sums_of(values, ids)) == pytest.approx((low, high), abs=1e-6)


def test_a_studentised_interval_stays_in_the_range_of_its_values() -> None:
    values = np.r_[np.full(190, 1.0), np.linspace(0.2, 0.9, 10)]
    low, high = studentised(values, sums_of(values, [f"s{i:03d}" for i in range(200)]), 0.0, 1.0)
    assert 0.9 < low < values.mean() < high <= 1.0


def test_of_two_samples_that_differ_the_interval_is_wilsons_of_their_share() -> None:
    values = np.r_[np.full(98, 0.0), [3.0, 3.0]]
    assert studentised(values, sums_of(values, [f"s{i:03d}" for i in range(100)])) == pytest.approx([3 * end for end in wilson(2, 100)])
    assert studentised(5 - values, sums_of(5 - values, [f"s{i:03d}" for i in range(100)])) == pytest.approx(
        [5 - 3 * end for end in wilson(2, 100)[::-1]]
    )


def test_a_mean_of_estimates_has_the_interval_of_cells_that_move_together() -> None:
    assert mean_of([(10.0, 8.0, 13.0), (20.0, 16.0, 25.0)]) == (15.0, 12.0, 19.0)


def test_holm_agrees_with_a_table_worked_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made monotone: .04 .06 .06 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_of_one_test_changes_nothing_and_never_passes_one() -> None:
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([0.7, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)


def test_a_paired_interval_holds_its_estimate_and_has_width_without_differences() -> None:
    low, high = paired(30, 10, 200)
    assert low < 20 / 200 < high
    low, high = paired(0, 0, 200)
    assert low < 0 < high
    assert low == pytest.approx(-high)


def test_a_paired_interval_agrees_with_a_case_worked_by_hand() -> None:
    # (31 - 11) / 202 = .0990099; half = 1.959964 * sqrt((42/202 - .0990099**2) / 202) = .0613810
    assert paired(30, 10, 200) == pytest.approx((0.0376289, 0.1603909), abs=1e-6)


def test_a_paired_interval_of_another_level_is_as_much_wider_as_its_quantile() -> None:
    (low, high), (lower, higher) = paired(30, 10, 200), paired(30, 10, 200, level=0.99)
    assert (higher - lower) / (high - low) == pytest.approx(2.575829 / 1.959964, abs=1e-6)
    assert low + high == pytest.approx(lower + higher)
