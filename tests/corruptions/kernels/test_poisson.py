"""Poisson counts against scipy's distribution function."""

import pytest
import torch
from scipy import stats

from robustvit.corruptions.kernels import poisson
from robustvit.primitives.draws import Draws


@pytest.mark.parametrize("photons", [60.0, 25.0, 12.0, 5.0, 3.0])
def test_counts_invert_the_distribution_function(photons) -> None:
    words = Draws(0, "p", ["a"]).words(4096)[0]
    levels = (torch.arange(4096) % 256).double()
    counts = poisson.counts(levels, words, photons).numpy()
    unit, rate = (words.numpy() + 0.5) / 2**32, levels.numpy() / 255 * photons
    assert (stats.poisson.cdf(counts, rate) > unit - 1e-9).all()
    assert (stats.poisson.cdf(counts - 1, rate) <= unit + 1e-9).all()


def test_rates_off_the_grid_give_the_counts_of_the_table_where_both_apply() -> None:
    words = Draws(0, "q", ["a"]).words(8192)[0]
    levels = (torch.arange(8192) % 256).double()
    assert torch.equal(poisson._summed_counts(levels / 255.0 * 60.0, words), poisson.counts(levels, words, 60.0))


def test_rates_between_levels_count_between_them() -> None:
    words = Draws(0, "r", ["a"]).words(2048)[0]
    below, between, above = (poisson.counts(torch.full((2048,), level), words, 25.0) for level in (100.0, 100.5, 101.0))
    assert bool(((below <= between) & (between <= above)).all())
    assert bool((below < above).any())


def test_the_extreme_words_are_counted() -> None:
    words = torch.tensor([0, (1 << 32) - 1])
    levels = torch.tensor([255.0, 255.0])
    low, high = poisson.counts(levels, words, 60.0).tolist()
    assert low < 20
    assert high > 110
    assert poisson.counts(torch.zeros(2), words, 60.0).tolist() == [0, 0]
