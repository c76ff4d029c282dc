"""Frequency: laws of projections, and the transforms of NumPy's kind as references."""

import numpy as np
import pytest
import scipy.fft
import torch

from robustvit.corruptions import frequency

RADII = [0, 3, 7.5, 12, 100]


def low(images: torch.Tensor, radius: float) -> torch.Tensor:
    return frequency._remove(images, frequency._distance(images) > radius)


def high(images: torch.Tensor, radius: float) -> torch.Tensor:
    return frequency._remove(images, frequency._except_mean(frequency._distance(images) <= radius))


def means(images: torch.Tensor) -> torch.Tensor:
    return images.double().mean(dim=(-2, -1), keepdim=True)


@pytest.mark.parametrize("radius", RADII)
def test_low_pass_twice_is_once(noise_images, radius) -> None:
    once = low(noise_images(), radius)
    assert torch.allclose(low(once, radius), once, atol=1e-12)


@pytest.mark.parametrize("radius", RADII)
def test_low_and_high_make_the_image_around_its_mean(noise_images, radius) -> None:
    images = noise_images()
    assert torch.allclose(low(images, radius) + high(images, radius), images + means(images), atol=1e-12)


@pytest.mark.parametrize("radius", RADII)
def test_energies_of_low_and_high_add_up(noise_images, radius) -> None:
    images = noise_images()
    rest = high(images, radius) - means(images)
    assert float(low(images, radius).square().sum() + rest.square().sum()) == pytest.approx(
        float(images.double().square().sum()), rel=1e-12
    )


@pytest.mark.parametrize("radius", [3, 7.5, 12])
def test_low_pass_keeps_what_numpys_spectrum_has_inside_the_circle(noise_images, radius) -> None:
    images = noise_images(1).numpy().astype(float)
    down, across = (np.fft.fftfreq(side, 1 / side) for side in images.shape[-2:])
    expected = np.fft.ifft2(np.fft.fft2(images) * (np.hypot(down[:, None], across) <= radius))
    assert np.abs(expected.imag).max() < 1e-12
    np.testing.assert_allclose(low(noise_images(1), radius).numpy(), expected.real, atol=1e-12)


def test_the_ends_of_the_passes_are_the_image_and_its_mean(noise_images) -> None:
    images = noise_images()
    assert torch.equal(frequency.low_pass(images, None, radius=20), images)
    assert torch.equal(frequency.high_pass(images, None, radius=0), images)
    for ended in (frequency.low_pass(images, None, radius=0), frequency.high_pass(images, None, radius=20)):
        assert torch.allclose(ended, means(images).float().expand_as(images), atol=1e-6)


def test_a_wider_low_pass_and_a_narrower_high_pass_are_milder(noise_images) -> None:
    images = noise_images()
    passed_low = [float((frequency.low_pass(images, None, radius=radius) - images).norm()) for radius in (2, 5, 9)]
    passed_high = [float((frequency.high_pass(images, None, radius=radius) - images).norm()) for radius in (2, 5, 9)]
    assert passed_low == sorted(passed_low, reverse=True)
    assert passed_high == sorted(passed_high)


@pytest.mark.parametrize("size", [1, 5, 24, 31, 99])
def test_cosines_are_those_of_scipys_transform(noise_images, size) -> None:
    images = noise_images().numpy().astype(float) * 0.2 + 0.4  # nothing is clipped
    spectrum = scipy.fft.dctn(images, axes=(-2, -1), norm="ortho")
    spectrum[..., size:, :] = 0
    spectrum[..., :, size:] = 0
    expected = scipy.fft.idctn(spectrum, axes=(-2, -1), norm="ortho")
    masked = frequency.dct_mask(torch.tensor(images), None, size=size)
    np.testing.assert_allclose(masked.numpy(), expected, atol=1e-7)


def test_the_ends_of_the_mask_are_the_image(noise_images) -> None:
    images = noise_images()
    assert torch.equal(frequency.dct_mask(images, None, size=31, keep="low"), images)
    assert torch.equal(frequency.dct_mask(images, None, size=1, keep="high"), images)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (0, 7), (12, 0), (23, 4)])
def test_a_wave_is_one_entry_of_the_spectrum(row, column) -> None:
    spectrum = torch.zeros(24, 17, dtype=torch.complex128)
    spectrum[row, column] = 1.0
    wave = torch.fft.irfft2(spectrum, s=(24, 32))
    assert torch.allclose(frequency._wave(torch.zeros(1, 3, 24, 32), row, column), wave / wave.norm(), atol=1e-12)


def test_the_noise_has_the_norm_eps_in_each_channel_and_a_sign_of_its_own(draws) -> None:
    images = torch.full((40, 3, 16, 16), 0.5)
    moved = frequency.fourier_noise(images, draws(40), row=2, column=-3, eps=1.0) - images
    assert torch.allclose(moved.norm(dim=(2, 3)), torch.ones(40, 3), atol=1e-5)
    assert len({tuple(signs) for signs in (moved[..., 0, 0] > 0).tolist()}) == 8


def test_without_eps_nothing_is_added_and_a_mirrored_wave_is_the_same(noise_images, draws) -> None:
    images = noise_images()
    assert torch.equal(frequency.fourier_noise(images, draws(2), row=1, column=2, eps=0.0), images)
    one, other = (frequency.fourier_noise(images, draws(2), row=sign * 3, column=sign * 2, eps=4.0) for sign in (1, -1))
    assert torch.allclose(one, other, atol=1e-6)
