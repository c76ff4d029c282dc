"""Digital corruptions against exact values and Pillow."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustvit.corruptions import digital
from robustvit.primitives.pixels import of_levels, pixels, to_uint8

EVERY = [1, 2, 3, 4, 5]


@pytest.mark.parametrize("severity", EVERY)
def test_contrast_leaves_a_flat_image_alone(flat, severity) -> None:
    for level in range(0, 256, 5):
        assert torch.equal(digital._contrast(flat(level, 3, 7), severity), flat(level, 3, 7))


def test_contrast_shrinks_towards_the_mean_of_each_channel() -> None:
    image = of_levels(torch.tensor([[0, 100], [20, 220], [255, 255]])).view(1, 3, 1, 2)
    assert to_uint8(digital._contrast(image, 1)).reshape(2, 3).T.tolist() == [[30, 70], [80, 160], [255, 255]]


def test_contrast_of_any_floats_keeps_to_the_formula() -> None:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = image.double().mean(dim=(2, 3), keepdim=True)
    expected = ((image.double() - mean) * 0.2 + mean) * 255
    assert bool(((digital._contrast(image, 3) * 255 - expected).abs() < 1 + 1e-5).all())


@pytest.mark.parametrize("severity", EVERY)
def test_pixelate_is_pillows_box(noise_images, severity) -> None:
    image, share = noise_images(1, 30, 44), [0.6, 0.5, 0.4, 0.3, 0.25][severity - 1]
    small = Image.fromarray(to_uint8(image)[0]).resize((int(44 * share), int(30 * share)), Image.Resampling.BOX)
    expected = np.array(small.resize((44, 30), Image.Resampling.NEAREST))
    assert torch.equal(digital.pixelate(image, None, severity=severity), pixels(expected[None]))


def test_pixelate_repeats_the_mean_of_each_block() -> None:
    image = of_levels(torch.arange(0, 128, 2).view(1, 1, 8, 8).expand(1, 3, 8, 8).contiguous())
    blocks = digital.pixelate(image, None, severity=2)[0, 0].mul(255).round()
    assert torch.equal(blocks, blocks[::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert blocks[::2, ::2].flatten()[:2].tolist() == [9.0, 13.0]


@pytest.mark.parametrize("severity", EVERY)
def test_jpeg_is_pillows_round_trip(noise_images, severity) -> None:
    image, file = noise_images(1), io.BytesIO()
    Image.fromarray(to_uint8(image)[0]).save(file, "JPEG", quality=[25, 18, 15, 10, 7][severity - 1])
    assert torch.equal(digital.jpeg_compression(image, None, severity=severity), pixels(np.array(Image.open(file))[None]))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_saturation_is_scaled_shifted_and_clipped(severity) -> None:
    factor, addend = [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)][severity - 1]
    red, grey = 200 / 255.0, 150 / 255.0
    less = min(1.0, (1 - grey / red) * factor + addend)
    colour = of_levels(torch.tensor([200, 150, 150])).view(1, 3, 1, 1)
    found = to_uint8(digital._saturate(colour, severity)).ravel().tolist()
    assert found == [200, *[pytest.approx(int(200 * (1 - less)), abs=1)] * 2]
