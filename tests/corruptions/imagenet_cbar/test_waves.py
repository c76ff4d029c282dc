"""Waves: exact values, and a plasma computed pixel by pixel."""

import math

import pytest
import torch

from robustvit.corruptions.imagenet_cbar import waves
from robustvit.primitives.pixels import to_uint8


def plasma_at(row: int, column: int, time: float, sharpness: float, scale: float, folds: int) -> list[float]:
    x, y, pitch, slowness, divisor = column / scale, row / scale, 1.0, 1.0, 1.0
    for _ in range(folds):
        u = math.cos(y * pitch + time / slowness) / divisor
        v = math.sin(x * pitch + time / slowness) / divisor
        x, y = x + u - 0.3 * v, y + v + 0.3 * u
        pitch, slowness, divisor = pitch * 1.93, slowness * 1.15, divisor * (2.25 - sharpness)
    return [math.sin(x - time), math.sin((x + y + math.sin(time)) / 2), math.sin(y + time)]


def test_a_stripe_of_a_quarter_turn_per_pixel_rises_and_falls_by_its_strength(flat) -> None:
    striped = waves._stripes(flat(128, 2, 4), torch.tensor([[math.pi / 2, 0.0, 0.0]], dtype=torch.float64), 5)
    assert to_uint8(striped)[0, 1, :, 0].tolist() == [128, 226, 128, 30]


def test_stripes_are_grey(flat, draws) -> None:
    striped = waves.single_frequency_greyscale(flat(128), draws(1), severity=3)
    assert torch.equal(striped[:, 0], striped[:, 1])
    assert torch.equal(striped[:, 0], striped[:, 2])


def test_rings_rise_from_dark_to_bright_and_start_again(flat) -> None:
    ringed = waves._rings(flat(128, 1, 10), torch.tensor([[0.0, 0.0, 3.0, 0.0, 8.0]]), 5)
    assert to_uint8(ringed)[0, 0, :, 0].tolist() == [64, 80, 96, 112, 128, 144, 160, 176, 64, 80]


@pytest.mark.parametrize("folds", [4, 5, 6])
def test_plasma_equals_a_computation_pixel_by_pixel(flat, folds) -> None:
    given = torch.tensor([[2.5, 0.75, 6.0]], dtype=torch.float64)
    made = to_uint8(waves._plasma(flat(200, 5, 7), given, torch.tensor([folds]), severity=5))[0]
    for row in range(5):
        for column in range(7):
            colours = plasma_at(row, column, 2.5, 0.75, 6.0, folds)
            assert made[row, column].tolist() == [int(200 * (1 - 64 / 255) + 64 * colour) for colour in colours]


def test_samples_with_different_numbers_of_folds_do_not_disturb_each_other(flat) -> None:
    images, given = flat(200).expand(3, -1, -1, -1), torch.tensor([[2.5, 0.75, 6.0]]).expand(3, -1)
    together = waves._plasma(images, given, torch.tensor([4, 5, 6]), severity=5)
    for i, folds in enumerate((4, 5, 6)):
        assert torch.equal(together[i : i + 1], waves._plasma(flat(200), given[:1], torch.tensor([folds]), severity=5))
