"""Randomness keyed by (seed, stream, sample id)."""

import contextlib

import pytest
import torch

from robustvit.primitives import compiled
from robustvit.primitives.draws import Draws, _philox, _philox_by_numpy

IDS = ["a", "b", "c", "d", "e"]


def test_philox_gives_its_known_answer() -> None:
    out = torch.empty(1, 1, 4, dtype=torch.int64)
    _philox(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), out)
    assert [f"{word:08x}" for word in out.flatten().tolist()] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@pytest.mark.parametrize("start", [0, 5, (1 << 32) - 2])
def test_torch_and_numpy_make_the_same_words(start) -> None:
    keys, counters = Draws(3, "s", IDS)._keys(), torch.arange(start, start + 9)
    expected = torch.empty(5, 9, 4, dtype=torch.int64)
    _philox(keys, counters, expected)
    assert _philox_by_numpy(keys.numpy(), counters.numpy()).tolist() == expected.tolist()


@pytest.mark.parametrize("numba", [True, False], ids=["numba", "numpy"])
@pytest.mark.parametrize("shape", [(7,), (3, 41, 64), (70_001,)], ids=str)
def test_numbers_drawn_where_they_are_wanted_are_those_of_all(shape: tuple[int, ...], numba: bool) -> None:
    draws, chosen = Draws(3, "s", IDS), Draws(4, "t", IDS).uniform(*shape) < 0.1
    everything = draws.uniform(*shape)
    with contextlib.nullcontext() if numba else compiled.without():
        assert torch.equal(draws.uniform_where(chosen)[chosen], everything[chosen])


def test_words_that_are_not_wanted_are_not_made() -> None:
    with compiled.without():
        assert not Draws(3, "s", IDS).uniform_where(torch.zeros(5, 8, dtype=torch.bool)).any()


def test_a_prefix_does_not_depend_on_the_length_requested() -> None:
    draws = Draws(3, "s", IDS)
    long = draws.words(40_001)
    assert torch.equal(draws.words(7), long[:, :7])
    assert torch.equal(draws.normal(7), draws.normal(100)[:, :7])


def test_numbers_belong_to_the_id_and_not_to_the_row() -> None:
    draws, order = Draws(3, "s", IDS), torch.tensor([4, 0, 2])
    assert torch.equal(draws[order].uniform(3, 5), draws.uniform(3, 5)[order])
    assert torch.equal(Draws(3, "s", ["c"]).permutation(9), draws.permutation(9)[2:3])


def test_seeds_streams_and_purposes_differ() -> None:
    words = [Draws(0, "s", IDS), Draws(1, "s", IDS), Draws(0, "t", IDS), Draws(0, "s", IDS).at("u"), Draws.for_step(0, 1, IDS)]
    assert len({tuple(draws.words(2)[0].tolist()) for draws in words}) == len(words)


def test_two_calls_give_the_same_numbers() -> None:
    draws = Draws(0, "s", IDS)
    assert torch.equal(draws.normal(2, 3), draws.normal(2, 3))


def test_normals_have_the_moments_of_a_normal() -> None:
    z = Draws(0, "s", IDS).normal(40_000).double()
    assert float(z.mean()) == pytest.approx(0, abs=0.01)
    assert float(z.var()) == pytest.approx(1, abs=0.01)
    assert float((z**4).mean()) == pytest.approx(3, abs=0.06)


def test_uniforms_fill_their_range() -> None:
    u = Draws(0, "s", IDS).uniform(20_000, low=-45.0, high=45.0)
    assert -45.0 <= float(u.min()) < -44.9
    assert 44.9 < float(u.max()) < 45.0
    assert float(u.mean()) == pytest.approx(0, abs=0.3)


def test_integers_are_uniform_over_their_range() -> None:
    counts = Draws(0, "s", IDS).integers(10_000, low=-2, high=3).add(2).flatten().bincount()
    assert counts.shape == (5,)
    assert bool(((counts - 10_000).abs() < 400).all())


def test_a_permutation_holds_every_position_once() -> None:
    rows = Draws(0, "s", IDS).permutation(50)
    assert torch.equal(rows.sort(dim=1).values, torch.arange(50).expand(5, -1))
    assert not torch.equal(rows[0], rows[1])


def test_no_samples_give_no_numbers() -> None:
    none = Draws(0, "s", [])
    assert none.uniform(2, 3).shape == none.normal(2, 3).shape == (0, 2, 3)
    assert none.permutation(4).shape == (0, 4)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 127, 513, 70_001])
def test_numbers_are_the_same_bits_with_numba_and_without(count) -> None:
    def numbers(draws: Draws) -> list[torch.Tensor]:
        return [draws.words(count), draws.integers(count, low=-3, high=5), draws.uniform(count, low=-45.0, high=45.0), draws.normal(count)]

    pytest.importorskip("numba")
    found = numbers(Draws(3, "s", IDS))
    with compiled.without():
        expected = numbers(Draws(3, "s", IDS))
    for here, there in zip(found, expected, strict=True):
        assert here.dtype == there.dtype
        assert torch.equal(here, there)
