"""Grids and draws of shifts."""

from __future__ import annotations

import pytest
import torch

from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.whole_shifts import all_shifts, nearest_first, random_shifts, refuse_far, shifted

IDS = [f"s{i}" for i in range(4000)]


def test_the_nearest_shifts_come_first_and_each_comes_once() -> None:
    found = nearest_first((-2, 2), (-2, 2))
    assert found[0].tolist() == [0, 0]
    assert found[1:9].tolist() == [[-1, 0], [0, -1], [0, 1], [1, 0], [-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert found.abs().amax(dim=1).tolist() == [0] + [1] * 8 + [2] * 16
    assert {tuple(one) for one in found.tolist()} == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    assert len(found) == 25


def test_all_shifts_are_row_by_row_with_both_ends() -> None:
    assert all_shifts((-1, 0), (4, 6)).tolist() == [[-1, 4], [-1, 5], [-1, 6], [0, 4], [0, 5], [0, 6]]


def test_random_shifts_are_uniform_over_the_ranges_and_of_both_directions_apart() -> None:
    found = random_shifts(Draws(0, "x", IDS), 2, (-1, 1), (0, 4))
    assert found.shape == (4000, 2, 2)
    counts = torch.bincount(((found[..., 0] + 1) * 5 + found[..., 1]).flatten(), minlength=15)
    expected = 8000 / 15
    assert float((counts - expected).square().sum() / expected) < 36  # the 0.999 quantile of a chi-squared with 14 degrees of freedom
    assert torch.equal(random_shifts(Draws(0, "x", IDS[7:9]), 2, (-1, 1), (0, 4)), found[7:9])


def test_a_shift_as_large_as_the_image_is_refused_in_one_line() -> None:
    refuse_far(5, (6, 9), "w")
    with pytest.raises(BadParameter, match=r"^w: a shift of 6 pixels is as large as images of 6x9; take at most 5\.$"):
        refuse_far(6, (6, 9), "w")


def test_neighbours_with_one_shift_are_moved_as_each_alone() -> None:
    images = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    shifts = torch.tensor([[1, 0], [1, 0], [0, 0], [1, 0], [-2, 3]])
    together = shifted(images, shifts, "reflect")
    alone = [shifted(images[row : row + 1], shifts[row : row + 1], "reflect") for row in range(5)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[2], images[2])
