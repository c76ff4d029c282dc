"""Perlin noise and checkerboard cutout: exact values."""

import pytest
import torch

from robustvit.corruptions.imagenet_cbar import lattice
from robustvit.primitives.pixels import to_uint8


@pytest.fixture
def order() -> torch.Tensor:
    return torch.randperm(256, generator=torch.Generator().manual_seed(0))[None]


def test_gradient_noise_is_zero_at_every_lattice_point(order) -> None:
    units = torch.randn(1, 256, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at = torch.arange(300, dtype=torch.float64)
    assert not lattice._gradient_noise(at, at, order, units).any()


def test_equal_slopes_make_a_ramp_less_its_blend(order) -> None:
    units = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 256, 2)
    at = torch.linspace(0, 3, 25, dtype=torch.float64)
    part = at - at.floor()
    expected = 1.5 * (part - part**2 * (3 - 2 * part))
    assert torch.allclose(lattice._gradient_noise(at, at, order, units)[0], expected[:, None].expand(-1, 25), atol=1e-12)


def test_gradient_noise_is_continuous_over_its_cells(order) -> None:
    units = torch.randn(1, 256, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at = torch.tensor([1.0 - 1e-9, 1.0, 1.0 + 1e-9, 255.9999999999, 256.0, 256.0000000001]).double()
    made = lattice._gradient_noise(at, at + 0.4, order, units)
    assert (made[0, 0] - made[0, 2]).abs().max() < 1e-7
    assert (made[0, 3] - made[0, 5]).abs().max() < 1e-7


@pytest.mark.parametrize(("severity", "opacity"), [(1, 0.23), (5, 0.44)])
def test_the_noise_is_at_least_half_bright(flat, draws, severity, opacity) -> None:
    veiled = to_uint8(lattice.perlin_noise(flat(0, 64, 64), draws(1), severity=severity))
    assert veiled.min() == int(0.5 * opacity * 255)
    assert veiled.max() <= opacity * 255


def test_slopes_of_length_zero_make_no_noise(flat, order) -> None:
    veiled = lattice._perlin_noise(flat(0), order, torch.zeros(1, 256, 2, dtype=torch.int64), severity=5)
    assert torch.equal(veiled, flat(int(0.5 * 0.44 * 255)))


def test_a_board_at_angle_zero_is_cut_square_by_square(flat) -> None:
    cut = lattice._checkerboard_cutout(flat(10), torch.tensor([[0.0, 6.0]]), torch.zeros(1, 40, 40), severity=1)
    at = torch.arange(24) // 6
    grey = (at[:, None] + at[None, :]) % 2 == 0
    assert torch.equal(cut, torch.where(grey, flat(128), flat(10)))


def test_squares_that_are_not_cut_are_unchanged(noise_images) -> None:
    images = noise_images()
    assert torch.equal(lattice._checkerboard_cutout(images, torch.tensor([[1.0, 5.0]]), torch.ones(1, 40, 40), severity=5), images)


def test_about_half_of_the_drawn_share_is_grey(flat, draws) -> None:
    cut = lattice.checkerboard_cutout(flat(10, 32, 32).expand(200, -1, -1, -1), draws(200), severity=5)
    assert abs(float((cut[:, 0] > 0.1).float().mean()) - 0.3) < 0.03
