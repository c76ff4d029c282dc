"""Haze: the scattering model."""

import math

import pytest
import torch

from robustvit.corruptions.haze import haze


def test_without_scattering_the_image_is_unchanged(noise_images) -> None:
    assert torch.equal(haze(noise_images(), None, beta=0.0), noise_images())


def test_a_transmission_of_one_half_is_halfway_to_the_airlight() -> None:
    hazy = haze(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3), None, beta=math.log(2), airlight=0.5)
    assert hazy.flatten().tolist() == pytest.approx([0.25, 0.5, 0.75])


def test_thick_haze_is_the_airlight(noise_images) -> None:
    assert torch.equal(haze(noise_images(), None, beta=100.0, airlight=0.75), torch.full_like(noise_images(), 0.75))


def test_depths_add_up(noise_images) -> None:
    twice = haze(haze(noise_images(), None, beta=0.5, depth=1.0), None, beta=0.5, depth=2.0)
    assert torch.allclose(twice, haze(noise_images(), None, beta=0.5, depth=3.0), atol=1e-6)
