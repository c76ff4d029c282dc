"""Sparkles: exact values, and the light computed pixel by pixel."""

import math

import pytest
import torch

from robustvit.corruptions.imagenet_cbar import sparkle
from robustvit.primitives.pixels import to_uint8


def light_at(row: float, column: float, lengths: list[float], decay: float) -> float:
    """The light `row` below and `column` right of a star."""
    turn = (math.atan2(column, row) + math.pi) / (2 * math.pi) * len(lengths)
    ray = int(turn)
    between = turn - ray
    length = lengths[ray % len(lengths)] * (1 - between) + lengths[(ray + 1) % len(lengths)] * between
    glow = (length**2 / (row**2 + column**2 + 1e-4)) ** decay
    return min(1.0, (1 - (between - 0.5) ** 2) * glow)


@pytest.mark.parametrize("severity", [1, 5])
def test_white_stays_white(flat, draws, severity) -> None:
    assert torch.equal(sparkle.sparkles(flat(255), draws(1), severity=severity), flat(255))
    assert torch.equal(sparkle.inverse_sparkles(flat(255), draws(1), severity=severity), flat(255))


@pytest.mark.parametrize("decay", [1.0, 0.13])
def test_the_light_equals_a_computation_pixel_by_pixel(flat, decay) -> None:
    lengths = [3.0, 5.0, 2.0, 4.0, 6.0, 9.0, 9.0]  # the star has five rays: the last two lengths are unused
    made = sparkle._light(flat(0, 9, 13), torch.tensor([[4.0, 6.5]]), torch.tensor([5]), torch.tensor([lengths]).double(), decay=decay)
    expected = [[light_at(row - 4.0, column - 6.5, lengths[:5], decay) for column in range(13)] for row in range(9)]
    assert torch.allclose(made[0], torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_a_star_is_white_at_its_centre_and_leaves_far_corners_dark(flat) -> None:
    centre = torch.tensor([[[10.0, 12.0]]])
    lit = to_uint8(sparkle._sparkles(flat(0, 64, 64), centre, torch.tensor([[50]]), torch.zeros(1, 1, 199), severity=1))
    assert lit[0, 10, 12].tolist() == [255, 255, 255]
    assert lit[0, 63, 63].max() == 0


def test_the_middle_of_the_image_shows_unchanged_through_the_light(noise_images) -> None:
    images = noise_images(1, 40, 40)
    corrupted = sparkle._inverse_sparkles(images, torch.tensor([[20.0, 20.0]]), torch.tensor([60]), torch.zeros(1, 199), severity=5)
    assert torch.equal(corrupted[..., 16:25, 16:25], images[..., 16:25, 16:25])
    assert bool((corrupted >= images).all())


def test_stars_only_brighten(noise_images, draws) -> None:
    images = noise_images()
    assert bool((sparkle.sparkles(images, draws(2), severity=4) >= images).all())
