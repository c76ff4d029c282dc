"""Filters against scipy and a plain loop."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustvit.corruptions.kernels import filters
from robustvit.primitives import compiled


@pytest.mark.parametrize(("border", "truncate"), [("nearest", 4.0), ("reflect", 3.0)])
@pytest.mark.parametrize("sigmas", [(0.7, 0.7), (1.5, 2.4), (0.1, 9.0)])
def test_gaussian_blur_is_scipys_to_the_bit_and_to_rounding_where_mirrored_kernels_are_long(border, truncate, sigmas) -> None:
    image = torch.rand(2, 3, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(image.numpy(), (0, 0, *sigmas), mode=border, truncate=truncate)
    found, long = filters.gaussian_blur(image, sigmas, truncate, border).numpy(), border == "reflect" and truncate * sigmas[1] > 17 / 4
    assert np.allclose(found, expected, rtol=0, atol=1e-15) if long else np.array_equal(found, expected)


@pytest.mark.parametrize(("border", "truncate"), [("nearest", 4.0), ("reflect", 3.0)])
def test_blur_without_numba_is_the_same_where_scipy_fuses_products_and_sums(border, truncate, monkeypatch) -> None:
    image = torch.rand(2, 3, 41, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = filters.gaussian_blur(image, (1.5, 2.4), truncate, border)
    with compiled.without():
        assert torch.equal(filters.gaussian_blur(image, (1.5, 2.4), truncate, border), expected)
        monkeypatch.setattr(filters, "_scipy_rounds_every_step", lambda: False)
        monkeypatch.setattr(filters, "_correlate_by_scipy", None)
        assert torch.equal(filters.gaussian_blur(image, (1.5, 2.4), truncate, border), expected)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scipy_that_fuses_products_and_sums_is_noticed(fused, monkeypatch) -> None:
    def correlate(images, weights, dim, border):
        total = images * weights[0]
        for tap in range(len(weights) - 1, 0, -1):
            pair = np.roll(images, tap) + np.roll(images, -tap)
            exact = pair.astype(np.longdouble) * weights[tap] if fused else pair * weights[tap]
            total = (total + exact).astype(np.float64)
        return total

    monkeypatch.setattr(filters, "_correlate_by_scipy", correlate)
    assert filters._scipy_rounds_every_step.__wrapped__() is not fused


@pytest.mark.parametrize("angle", [-45.0, -17.3, 0.0, 44.9, -90.0, -134.0])
def test_motion_blur_is_the_weighted_sum_of_shifted_copies(angle) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 34)).astype(np.float64)
    weights = np.exp(-(np.arange(21) ** 2) / (2 * 3.0**2))
    expected = np.zeros_like(image)
    for i, weight in enumerate(weights / weights.sum()):
        down, right = (math.ceil(i * turn(math.radians(angle)) - 0.5) for turn in (math.sin, math.cos))
        rows, columns = np.clip(np.arange(30) + down, 0, 29), np.clip(np.arange(34) + right, 0, 33)
        expected += weight * image[rows][:, columns]
    found = filters.motion_blur(torch.from_numpy(image)[None, None], [angle], 10, 3.0)[0, 0].numpy()
    assert np.allclose(found, expected, atol=1e-9)


def test_motion_blur_beyond_the_image_size_is_darker() -> None:
    white = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    weights = np.exp(-(np.arange(21) ** 2) / (2 * 5.0**2))
    found = filters.motion_blur(white, [0.0], 10, 5.0)
    assert torch.allclose(found, torch.full_like(found, weights[:8].sum() / weights.sum()))


@pytest.mark.parametrize(("twice", "mode"), [(True, "symmetric"), (False, "reflect")])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_indices_are_reflected_as_numpy_pads(twice, mode, size) -> None:
    index = torch.arange(-7, size + 7)
    assert filters.reflect_index(index, size, twice=twice).tolist() == np.pad(np.arange(size), 7, mode=mode).tolist()
