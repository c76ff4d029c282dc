"""Noise of a given spectrum: laws, and NumPy's transform as the reference."""

import math

import numpy as np
import pytest
import torch

from robustvit.corruptions.imagenet_cbar import spectra


@pytest.fixture
def phases() -> torch.Tensor:
    return torch.rand(1, 3, 32, 16, generator=torch.Generator().manual_seed(0)).double() * (2 * math.pi)


def test_a_field_is_numpys_inverse_transform_of_its_spectrum(phases) -> None:
    amplitude = np.random.default_rng(0).random((32, 32))
    half = phases[0, 1].numpy()
    spectrum = amplitude * np.exp(1j * np.concatenate([half, half[::-1, ::-1]], axis=1))
    expected = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
    np.testing.assert_allclose(spectra._field(torch.tensor(amplitude), phases)[0, 1].numpy(), expected / expected.std(), atol=1e-12)


def test_the_spectrum_is_measured_from_its_middle(phases) -> None:
    distance = spectra._distance(phases)
    assert (distance[16, 16], distance[16, 0], distance[19, 12]) == (0.0, 16.0, 5.0)


def test_blue_noise_has_no_mean(phases) -> None:
    assert spectra._field(spectra._distance(phases), phases).mean().abs() < 1e-12


def test_a_blue_sample_blackens_whole_pixels_and_leaves_the_rest_alone(noise_images, draws) -> None:
    images = noise_images(2, 32, 32).clamp(min=1 / 255)
    sampled = spectra.blue_noise_sample(images, draws(2), severity=5)
    black = sampled.amax(dim=1, keepdim=True) == 0
    assert 0.15 < black.float().mean() < 0.3  # P(z < −0.82) is 0.21
    assert torch.equal(sampled, torch.where(black, 0.0, images))


def test_more_severe_blue_samples_blacken_more_of_the_same(noise_images, draws) -> None:
    images = noise_images(2, 32, 32).clamp(min=1 / 255)
    mild, hard = (spectra.blue_noise_sample(images, draws(2), severity=severity) == 0 for severity in (3, 5))
    assert bool((hard | ~mild).all())


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_brownish_noise_has_the_deviation_of_its_severity(flat, draws, severity) -> None:
    images = flat(128, 64, 64)
    moved = (spectra.brownish_noise(images, draws(1), severity=severity) - images) * 255
    assert moved.std(dim=(2, 3)).sub(6.4 * severity).abs().max() < 0.1


def test_an_odd_image_is_cut_from_the_next_even_field(flat, draws) -> None:
    whole = spectra.brownish_noise(flat(128, 24, 24), draws(1), severity=2)
    assert torch.equal(spectra.brownish_noise(flat(128, 23, 17), draws(1), severity=2), whole[..., :23, :17])
