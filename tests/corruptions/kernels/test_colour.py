"""Colour against colorsys and scikit-image."""

import colorsys
from fractions import Fraction

import numpy as np
import pytest
import torch

from robustvit.corruptions.kernels import colour

CORNERS = torch.cartesian_prod(*[torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)] * 3).T.reshape(1, 3, 8, 8)


def test_hue_saturation_and_value_are_colorsys() -> None:
    hue, saturation, value = colour.to_hsv(CORNERS)
    found = torch.stack((hue, saturation, value), dim=-1).view(-1, 3).tolist()
    expected = [colorsys.rgb_to_hsv(*pixel) for pixel in CORNERS.flatten(2)[0].T.tolist()]
    assert np.allclose(found, expected, atol=1e-12)


def test_rgb_comes_back_as_it_was() -> None:
    assert torch.allclose(colour.to_rgb(*colour.to_hsv(CORNERS)), CORNERS, atol=1e-12)


def test_both_ways_are_scikit_images_to_the_bit() -> None:
    color = pytest.importorskip("skimage.color")
    image = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0)).double() / 255
    image[0, :, :20] = image[0, :, :20].mul(5).round().div(5)  # ties between channels
    expected = color.rgb2hsv(image[0].permute(1, 2, 0).numpy())
    hsv = colour.to_hsv(image)
    assert np.array_equal(torch.stack(hsv, dim=-1)[0].numpy(), expected)
    assert np.array_equal(colour.to_rgb(*hsv)[0].permute(1, 2, 0).numpy(), color.hsv2rgb(expected))


def test_luma_of_grey_is_grey() -> None:
    assert torch.allclose(colour.luma(torch.full((1, 3, 2, 2), 0.4)), torch.full((1, 1, 2, 2), 0.4))


def single(exact: Fraction) -> np.float32:
    """The float32 number nearest to an exact positive one (no ties among these)."""
    near = np.float32(float(exact))
    candidates = (np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(9)))
    return min(candidates, key=lambda one: abs(Fraction(float(one)) - exact))


def test_luma_rounds_a_product_and_its_sum_once() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (200, 3))
    levels[:100] = levels[:100, :1]
    image = (levels.astype(np.float32) / np.float32(255.0)).T
    red, green, blue = (Fraction(float(np.float32(weight))) for weight in (0.299, 0.587, 0.114))
    expected = []
    for r, g, b in image.T.tolist():
        total = Fraction(float(single(green * Fraction(g))))
        total = Fraction(float(single(red * Fraction(r) + total)))
        expected.append(single(blue * Fraction(b) + total))
    found = colour.luma(torch.from_numpy(image).reshape(1, 3, 20, 10)).flatten().numpy()
    assert found.dtype == np.float32
    assert found.tolist() == np.array(expected).tolist()


def test_luma_of_white_is_one_and_of_black_zero() -> None:
    assert colour.luma(torch.ones(1, 3, 1, 1)).item() == 1.0
    assert colour.luma(torch.zeros(1, 3, 1, 1)).item() == 0.0
