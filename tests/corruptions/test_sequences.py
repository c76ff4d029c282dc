"""Sequences of noise, blur and weather: constants, first and last frames, and what is constant within a clip."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustvit.corruptions import sequences
from robustvit.corruptions.kernels import filters
from robustvit.primitives.pixels import of_levels, to_uint8

NOISE = [sequences.gaussian_noise_frame, sequences.shot_noise_frame, sequences.speckle_noise_frame]
noisy = pytest.mark.parametrize("noise", NOISE, ids=lambda noise: noise.__name__)
hard = pytest.mark.parametrize("difficulty", [1, 2, 3])


@noisy
@hard
def test_the_first_frame_of_a_noisy_clip_is_the_clean_image(noise_images, draws, noise, difficulty) -> None:
    images = noise_images()
    assert torch.equal(noise(images, draws(2), frame=0, difficulty=difficulty), images)


@noisy
def test_noise_differs_between_frames_and_samples_and_repeats_for_the_same_id(flat, draws, noise) -> None:
    images = flat(128, 40, 40).expand(2, -1, -1, -1)
    first, later = (noise(images, draws(2), frame=t) - images for t in (1, 2))
    assert torch.equal(first, noise(images, draws(2), frame=1) - images)
    for one, other in ((first[0], first[1]), (first[0], later[0])):
        pair = torch.stack((one.flatten(), other.flatten()))
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.06  # four deviations of 4800 independent values


@hard
def test_gaussian_noise_has_its_deviation(flat, draws, difficulty) -> None:
    noise = sequences.gaussian_noise_frame(flat(128, 64, 64), draws(1), frame=30, difficulty=difficulty)
    assert float(noise.std()) == pytest.approx((0.03, 0.05, 0.08)[difficulty - 1], rel=0.03)


@hard
def test_speckle_noise_is_proportional_to_brightness(flat, draws, difficulty) -> None:
    dark, bright = (sequences.speckle_noise_frame(flat(k, 64, 64), draws(1), frame=7, difficulty=difficulty) for k in (60, 180))
    assert float(bright.std() / dark.std()) == pytest.approx(3.0, rel=0.02)
    assert float(bright.std()) == pytest.approx((0.05, 0.1, 0.15)[difficulty - 1] * 180 / 255, rel=0.03)


@hard
def test_shot_noise_counts_its_photons(flat, draws, difficulty) -> None:
    noise = sequences.shot_noise_frame(flat(128, 64, 64), draws(1), frame=3, difficulty=difficulty).double()
    photons = (300, 120, 60)[difficulty - 1]
    assert float(noise.var()) == pytest.approx(128 / 255 / photons, rel=0.04)
    assert float(noise.mean()) == pytest.approx((128 - 0.5) / 255, abs=0.003)


def test_gaussian_noise_truncates_in_float32_as_the_generator_does(noise_images) -> None:
    images, noise = noise_images(), torch.randn(2, 3, 24, 31, generator=torch.Generator().manual_seed(1))
    expected = torch.clamp(images + 0.05 * noise, 0, 1).mul(255).byte()
    assert torch.equal(sequences._gaussian_noise(images, noise, 2), of_levels(expected))


@pytest.mark.parametrize(("frame", "added"), [(0, -0.3), (1, -0.28), (15, 0.0), (30, 0.3)])
@pytest.mark.parametrize("level", [0, 60, 200, 255])
def test_brightness_adds_to_grey(flat, draws, frame, added, level) -> None:
    expected = np.uint8(np.clip(level / 255.0 + added, 0, 1) * 255)
    assert torch.equal(sequences.brightness_frame(flat(level), draws(1), frame=frame), flat(int(expected)))


@pytest.mark.parametrize(("frame", "sigma"), [(0, 0.25), (15, 0.775), (30, 1.3)])
def test_gaussian_blur_is_scipys_filter(noise_images, draws, frame, sigma) -> None:
    image = noise_images(1)
    expected = ndimage.gaussian_filter(to_uint8(image)[0] / 255.0, (sigma, sigma, 0), mode="nearest", truncate=6.0) * 255
    assert np.array_equal(to_uint8(sequences.gaussian_blur_frame(image, draws(1), frame=frame))[0], np.uint8(expected))


@pytest.mark.parametrize(("frame", "degrees"), [(0, -120), (15, -60), (30, 0)])
def test_motion_blur_weights_by_half_a_gaussian_along_its_angle(noise_images, draws, frame, degrees) -> None:
    image = noise_images(1, 48, 51)
    bell = np.exp(-(np.arange(21) ** 2) / 18.0)
    rows, columns = np.mgrid[:48, :51]
    source, found = to_uint8(image)[0].astype(float), np.zeros((48, 51, 3))
    for i, weight in enumerate(bell / bell.sum()):
        down, right = (np.ceil(i * part(np.deg2rad(degrees)) - 0.5).astype(int) for part in (np.sin, np.cos))
        found += weight * source[(rows + down).clip(0, 47), (columns + right).clip(0, 50)]
    expected = np.floor(257 * found + 0.5) // 257
    assert np.array_equal(to_uint8(sequences.motion_blur_frame(image, draws(1), frame=frame))[0], expected)


def test_snow_rotates_the_motion_blur_of_one_layer_of_flakes_from_150_to_30_degrees(flat, draws, monkeypatch) -> None:
    calls, motion_blur = [], filters.motion_blur
    monkeypatch.setattr(
        filters, "motion_blur", lambda layer, *params: calls.append((layer.clone(), *params)) or motion_blur(layer, *params)
    )
    for frame in (0, 15, 30):
        sequences.snow_frame(flat(90, 40, 50), draws(1), frame=frame)
    assert [params for _, *params in calls] == [[[-150.0], 14, 4.0], [[-90.0], 14, 4.0], [[-30.0], 14, 4.0]]
    assert all(torch.equal(layer, calls[0][0]) for layer, *_ in calls)
    assert 0 < float((calls[0][0] > 0).double().mean()) < 0.2
    assert float(calls[0][0][calls[0][0] > 0].amin()) >= 127.0  # values below half are not flakes


def test_snow_is_symmetric_under_a_rotation_by_180_degrees(flat, draws) -> None:
    snowed = sequences.snow_frame(flat(0, 40, 31), draws(1), frame=9)
    assert torch.equal(snowed, snowed.flip(2, 3))


def test_snow_without_flakes_only_whitens(flat) -> None:
    whitened = sequences._snow(flat(102), torch.full((1, 24, 24), -9.0), 3)
    assert torch.equal(whitened, flat(int(255 * (0.85 * 0.4 + 0.15 * (1.5 * 0.4 + 0.5)))))


def test_flakes_are_the_central_crop_of_the_enlarged_layer(flat) -> None:
    flakes = torch.full((1, 25, 25), -9.0)
    flakes[0, 12, 12] = 9.0
    lit = sequences._snow(flat(0, 25, 25), flakes, 15)[0, 0].amax(dim=0) > 0.09
    assert torch.equal(lit, lit.flip(0))  # the motion blur of frame 15 is vertical, so the left-right symmetry is kept


def test_water_runs_down_as_numpys_convolution_of_the_columns() -> None:
    layer = torch.rand(1, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = np.apply_along_axis(lambda column: np.convolve(column, [0.05, 0.1, 0.15, 0.7], mode="same"), 0, layer[0].numpy())
    assert np.allclose(sequences._run_down(layer)[0], expected, rtol=1e-15, atol=0)


def test_an_image_without_drops_is_unchanged(noise_images) -> None:
    images = noise_images()
    assert torch.equal(sequences._spatter(images, torch.full((2, 24, 31), -9.0), 8), images)


def test_drops_have_the_colour_of_water_and_run_down(flat, draws) -> None:
    first, last = (to_uint8(sequences.spatter_frame(flat(0, 96, 64), draws(1), frame=t))[0].astype(float) for t in (0, 12))
    assert first[..., 0].max() <= int(0.6 * 175)
    assert first[..., 2].max() == int(0.6 * 238)
    products = np.fft.irfft(np.fft.rfft(last[..., 2], 192, 0) * np.fft.rfft(first[..., 2], 192, 0).conj(), 192, 0).sum(axis=1)
    assert 8 <= products.argmax() <= 20  # rows: 1.4 a frame
