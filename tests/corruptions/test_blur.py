"""Blur against OpenCV, scipy and plain loops."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustvit.corruptions import blur
from robustvit.primitives.pixels import of_levels, to_uint8

EVERY = [1, 2, 3, 4, 5]


def levels(image: torch.Tensor) -> np.ndarray:
    return to_uint8(image)[0]


@pytest.mark.parametrize("severity", EVERY)
def test_the_defocus_disk_is_opencvs(severity) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    radius, softening = blur._DISKS[severity - 1]
    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    at = np.arange(-reach, reach + 1)
    disk = (at[None] ** 2 + at[:, None] ** 2 <= radius**2).astype(np.float32)
    expected = cv2.GaussianBlur(disk / disk.sum(), (side, side), softening)
    assert np.allclose(blur._disk(severity), expected, rtol=2e-7, atol=0)


@pytest.mark.parametrize("severity", EVERY)
def test_defocus_is_opencvs_filter(noise_images, severity) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    image = noise_images(1, 40, 33)
    expected = cv2.filter2D(levels(image) / 255.0, -1, blur._disk(severity)).clip(0, 1) * 255
    assert np.array_equal(levels(blur._defocus_blur(image, severity)), np.uint8(expected))


@pytest.mark.parametrize("severity", EVERY)
@pytest.mark.parametrize("tile", [30, 48])
def test_defocus_does_not_depend_on_its_tiles(noise_images, monkeypatch, severity, tile) -> None:
    image = noise_images(2, 61, 90)
    whole = blur._defocus_blur(image, severity)
    monkeypatch.setattr(blur, "_TILE", tile)
    assert torch.equal(blur._defocus_blur(image, severity), whole)


def test_defocus_leaves_black_black(flat) -> None:
    assert torch.equal(blur._defocus_blur(flat(0), 3), flat(0))


@pytest.mark.parametrize("severity", EVERY)
def test_glass_copies_neighbours_one_after_another(noise_images, severity) -> None:
    sigma, reach, passes = blur._GLASS[severity - 1]
    image = noise_images(1, 17, 14)
    offsets = np.random.default_rng(severity).integers(-reach, reach, (passes, 17 - 2 * reach, 14 - 2 * reach, 2))
    wanted = np.uint8(ndimage.gaussian_filter(levels(image) / 255.0, (sigma, sigma, 0), mode="nearest") * 255)
    for turn in offsets:
        for i, h in enumerate(range(17 - reach, reach, -1)):
            for j, w in enumerate(range(14 - reach, reach, -1)):
                wanted[h, w] = wanted[h + turn[i, j, 1], w + turn[i, j, 0]]
    wanted = ndimage.gaussian_filter(wanted / 255.0, (sigma, sigma, 0), mode="nearest").clip(0, 1) * 255
    assert np.array_equal(levels(blur._glass_blur(image, torch.from_numpy(offsets)[None], severity)), np.uint8(wanted))


def test_long_chains_of_copies_end_at_their_last_pixel() -> None:
    right = torch.zeros(1, 1, 6, 30, 2, dtype=torch.int64)
    right[..., 0] = 1
    sources = blur._glass_sources(right, 10, 34).view(10, 34)
    assert sources[4, 3:].tolist() == [4 * 34 + 33] * 31
    assert sources[4, :3].tolist() == [4 * 34, 4 * 34 + 1, 4 * 34 + 2]


def test_copies_of_pixels_not_yet_overwritten_take_what_was_there() -> None:
    left = torch.zeros(1, 1, 6, 30, 2, dtype=torch.int64)
    left[..., 0] = -1
    assert blur._glass_sources(left, 8, 32).view(8, 32)[3, 2:].tolist() == list(range(3 * 32 + 1, 3 * 32 + 31))


@pytest.mark.parametrize("severity", EVERY)
def test_motion_at_angle_zero_is_a_weighted_sum_along_the_rows(noise_images, severity) -> None:
    radius, sigma = blur._STREAKS[severity - 1]
    image = noise_images(1, 20, 48)
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    source, expected = levels(image), np.zeros((20, 48, 3))
    for i, weight in enumerate(weights / weights.sum()):
        expected += weight * source[:, np.minimum(np.arange(48) + i, 47)]
    found = levels(blur._motion_blur(image, torch.zeros(1), severity))
    assert np.array_equal(found, np.uint8(expected))


@pytest.mark.parametrize(("severity", "count"), [(1, 12), (2, 16), (3, 11), (4, 13), (5, 11)])
def test_zoom_is_the_mean_of_scipys_enlargements(noise_images, severity, count) -> None:
    image = noise_images(1, 30, 37)
    source = (levels(image) / 255.0).astype(np.float32)
    factors = np.arange(1, *blur._ZOOMS[severity - 1])
    total = np.zeros_like(source)
    for factor in factors:
        height, width = (int(np.ceil(side / factor)) for side in (30, 37))
        top, left = (30 - height) // 2, (37 - width) // 2
        layer = ndimage.zoom(source[top : top + height, left : left + width], (factor, factor, 1), order=1)[:30, :37]
        total[: layer.shape[0], : layer.shape[1]] += layer
    assert len(factors) == count
    expected = np.uint8(((source + total) / (count + 1)).clip(0, 1) * 255)
    assert np.array_equal(levels(blur._zoom_blur(image, severity)), expected)


def test_motion_leaves_a_flat_image_flat_to_a_level(flat) -> None:
    found = blur._motion_blur(flat(200, 64, 64), torch.tensor([30.0]), 2)
    assert bool((found >= of_levels(torch.tensor(199))).all())
    assert bool((found <= of_levels(torch.tensor(200))).all())


@pytest.mark.parametrize("severity", EVERY)
def test_gaussian_is_scipys_filter(noise_images, severity) -> None:
    image = noise_images(1, 40, 33)
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    expected = ndimage.gaussian_filter(levels(image) / 255.0, (sigma, sigma, 0), mode="nearest").clip(0, 1) * 255
    assert np.array_equal(levels(blur._gaussian_blur(image, severity)), np.uint8(expected))
