"""Uniform grids and ranges, against loops over numbers written from the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from robustvit.errors import BadParameter
from robustvit.primitives.quantisation.uniform_quantisation import (
    Range,
    check_bits,
    least_error_range,
    quantised,
    range_of,
    round_to_grid,
    uniform_grid,
)


def values(rows: int = 3, count: int = 40) -> torch.Tensor:
    return torch.randn(rows, count, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.3


def by_hand(row: list[float], bits: int, symmetric: bool) -> list[float]:
    """Each number as the nearest value of a list of all values of the grid."""
    low, high = min(min(row), 0.0), max(max(row), 0.0)
    if symmetric:
        step = max(-low, high) / (2 ** (bits - 1) - 1)
        grid = [code * step for code in range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))]
    else:
        step = (high - low) / (2**bits - 1)
        zero = round(-low / step)
        grid = [(code - zero) * step for code in range(2**bits)]
    return [min(grid, key=lambda level: abs(level - number)) for number in row]


@pytest.mark.parametrize(("bits", "symmetric"), list(itertools.product((2, 3, 4, 8), (True, False))))
def test_rounding_finds_the_nearest_value_of_the_grid(bits, symmetric) -> None:
    rows = values()
    span = range_of(rows, "minmax", bits, symmetric=symmetric)
    found = round_to_grid(rows, uniform_grid(Range(span.low[:, None], span.high[:, None]), bits, symmetric))
    wanted = torch.tensor([by_hand(row, bits, symmetric) for row in rows.tolist()], dtype=torch.float64)
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_grid_has_as_many_values_as_its_bits_say_and_zero_is_one(symmetric) -> None:
    grid = uniform_grid(Range(torch.tensor(-0.7), torch.tensor(2.1)), 3, symmetric)
    found = round_to_grid(torch.linspace(-9, 9, 5001), grid).unique()
    assert len(found) == (7 if symmetric else 8)
    assert float(round_to_grid(torch.zeros(1), grid)) == 0.0
    assert 0.0 in found


@pytest.mark.parametrize(("low", "high"), [(1.0, 3.0), (-3.0, -1.0)])
def test_a_range_of_one_sign_is_extended_to_zero(low, high) -> None:
    grid = uniform_grid(Range(torch.tensor(low), torch.tensor(high)), 4, symmetric=False)
    found = round_to_grid(torch.tensor([0.0, low, high]), grid)
    assert float(found[0]) == 0.0
    assert torch.allclose(found[1:], torch.tensor([low, high]), atol=0.1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_rounding_twice_is_rounding_once(symmetric) -> None:
    grid = uniform_grid(Range(torch.tensor(-1.3), torch.tensor(0.4)), 4, symmetric)
    once = round_to_grid(values(), grid)
    assert torch.equal(round_to_grid(once, grid), once)


def test_values_beyond_the_range_become_its_ends() -> None:
    grid = uniform_grid(Range(torch.tensor(0.0), torch.tensor(15.0)), 4, symmetric=False)
    assert round_to_grid(torch.tensor([-3.0, 15.4, 99.0, 7.2]), grid).tolist() == [0.0, 15.0, 15.0, 7.0]


def test_a_range_without_extent_keeps_zeros() -> None:
    grid = uniform_grid(Range(torch.zeros(2, 1), torch.zeros(2, 1)), 8, symmetric=True)
    assert torch.equal(round_to_grid(torch.zeros(2, 3), grid), torch.zeros(2, 3))


@pytest.mark.parametrize("share", [60.0, 90.0, 99.0, 100.0])
def test_percentiles_are_numpys(share) -> None:
    rows = values()
    found = range_of(rows, "percentile", 8, symmetric=False, percentile=share)
    assert np.allclose(found.high, np.percentile(rows.numpy(), share, axis=1), atol=1e-12)
    assert np.allclose(found.low, np.percentile(rows.numpy(), 100 - share, axis=1), atol=1e-12)
    both = range_of(rows, "percentile", 8, symmetric=True, percentile=share)
    assert np.allclose(both.high, np.percentile(np.abs(rows.numpy()), share, axis=1), atol=1e-12)
    assert torch.equal(both.low, -both.high)


@pytest.mark.parametrize(("bits", "symmetric"), list(itertools.product((2, 4), (True, False))))
def test_the_search_finds_the_share_of_least_squared_error(bits, symmetric) -> None:
    rows = values(count=300)
    found = range_of(rows, "mse", bits, symmetric=symmetric)
    for index, row in enumerate(rows.tolist()):
        shares = np.linspace(1.0, 0.2, 41)
        errors = []
        for share in shares:
            span = Range(torch.tensor(min(row) * share), torch.tensor(max(row) * share))
            found_row = round_to_grid(torch.tensor(row), uniform_grid(span, bits, symmetric)).tolist()
            errors.append(sum((a - b) ** 2 for a, b in zip(row, found_row, strict=True)))
        assert float(found.high[index]) == pytest.approx(max(row) * shares[int(np.argmin(errors))], rel=1e-6)
    assert (found.high < rows.amax(dim=1)).any()  # at few bits clipping pays


def test_weights_of_a_search_count_as_repetitions() -> None:
    rows, times = values(1, 12), torch.tensor([[1.0, 5, 2, 1, 1, 3, 1, 1, 8, 1, 1, 1]], dtype=torch.float64)
    whole = Range(rows.amin(dim=1), rows.amax(dim=1))
    repeated = rows.repeat_interleave(times[0].long(), dim=1)
    found = least_error_range(rows, times, whole, 3, symmetric=False)
    assert torch.allclose(found.high, range_of(repeated, "mse", 3, symmetric=False).high)


def test_the_gradient_is_straight_inside_and_none_where_clipped() -> None:
    leaf = torch.tensor([-2.0, -0.3, 0.21, 0.9, 3.0], requires_grad=True)
    grid = uniform_grid(Range(torch.tensor(-1.0), torch.tensor(1.0)), 4, symmetric=False)
    found = quantised(leaf, grid, "straight-through")
    assert torch.equal(found, round_to_grid(leaf.detach(), grid))  # to the bit, although the gradient is another's
    assert torch.autograd.grad(found.sum(), leaf)[0].tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert not quantised(leaf, grid, "none").requires_grad


def test_half_precision_is_quantised_in_float32() -> None:
    grid = uniform_grid(Range(torch.tensor(-1.0), torch.tensor(1.0)), 8, symmetric=False)
    pixels = torch.rand(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(quantised(pixels, grid, "straight-through"), round_to_grid(pixels.float(), grid).bfloat16())


@pytest.mark.parametrize("bits", [0, 1, 17, 31, 33])
def test_bits_are_2_to_16_or_32(bits) -> None:
    with pytest.raises(BadParameter, match=f"transform 'quantize': bits is {bits}; it takes 2 to 16, or 32"):
        check_bits("quantize", bits)
