"""The anti-aliased patch embedding against a dense convolution, a merged kernel and gains in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.structure.blurred_embedding import BlurredConvolution, binomial, gain_at_nyquist, half_gain_size
from robustvit.transforms.geometry.blurpool import blurpool

HOST = vits.made(vits.HOSTS["plain"])


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def convolution(patch: int) -> nn.Conv2d:
    conv = nn.Conv2d(3, 5, patch, patch, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(drawn(5, 3, patch, patch))
    return conv.requires_grad_(False)


@pytest.mark.parametrize("size", [3, 4, 5])
def test_it_is_a_dense_convolution_that_is_blurred_and_then_read_in_strides(size: int) -> None:
    conv, images, patch = convolution(4), drawn(2, 3, 16, 24), 4
    dense = functional.conv2d(functional.pad(images, ((size - 1) // 2, patch + 8, (size - 1) // 2, patch + 8), mode="reflect"), conv.weight)
    taps = torch.tensor([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)], dtype=torch.float64)
    blurred = functional.conv2d(dense, torch.outer(taps, taps).expand(5, 1, -1, -1), stride=patch, groups=5)[:, :, :4, :6]
    found = BlurredConvolution(conv, (size, size), "reflect")(images)
    assert conv.bias is not None
    torch.testing.assert_close(found, blurred + conv.bias.view(1, -1, 1, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [3, 4, 10])
def test_it_is_one_convolution_with_a_wider_kernel(size: int) -> None:
    conv, images = convolution(4), drawn(2, 3, 16, 24)
    taps = binomial(size)
    merged = functional.conv_transpose2d(conv.weight, torch.outer(taps, taps).expand(3, 1, -1, -1), groups=3)
    assert merged.shape[2:] == (3 + size, 3 + size)
    wide = functional.pad(images, ((size - 1) // 2, size // 2) * 2, mode="circular")
    expected = functional.conv2d(wide, merged, conv.bias, stride=4)
    torch.testing.assert_close(BlurredConvolution(conv, (size, size), "circular")(images), expected, rtol=0, atol=1e-12)


def test_gains_at_the_highest_frequency_of_a_token_grid() -> None:
    assert [round(gain_at_nyquist(size, 4), 2) for size in (3, 5, 7)] == [0.85, 0.73, 0.62]
    assert [round(gain_at_nyquist(size, 16), 2) for size in (3, 5, 7)] == [0.99, 0.98, 0.97]
    assert gain_at_nyquist(3, 2) == pytest.approx(0.5)
    assert [half_gain_size(patch) for patch in (1, 2, 4, 8, 16)] == [1, 3, 10, 37, 145]


@pytest.mark.parametrize(("size", "patch"), [(3, 4), (5, 4), (10, 4), (37, 8)])
def test_a_wave_of_that_frequency_is_weakened_by_its_gain(size: int, patch: int) -> None:
    wave = torch.cos(math.pi * torch.arange(16 * patch, dtype=torch.float64) / patch + 0.3).expand(1, 3, 16 * patch, -1)
    layer = BlurredConvolution(convolution(patch), (1, size), "circular")
    gain = float(layer.blur(wave).norm() / wave.norm())
    assert gain == pytest.approx(math.cos(math.pi / (2 * patch)) ** (size - 1), abs=1e-9)


def test_constants_stay_and_size_1_is_the_host_to_the_bit() -> None:
    model: Any = blurpool(HOST, size="half")
    layer = model.model.patch_embed.proj
    assert layer.sizes == (37, 37)
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(layer.blur(flat), flat)
    pixels = vits.images(3)
    assert torch.equal(blurpool(HOST, size="1")(pixels), HOST(pixels))
    assert not torch.allclose(model(pixels), HOST(pixels), atol=1e-2)


def test_a_filter_wider_than_the_image_is_refused() -> None:
    with pytest.raises(
        HostRefused, match="'blurpool' does not take 'toy': a filter of 145x145 taps is too wide for images of 32x32 pixels"
    ):
        blurpool(vits.made(lambda: vits.vit(patch_size=16, depth=1)), size="half")
    with pytest.raises(HostRefused, match="is a BlurredConvolution"):
        blurpool(blurpool(HOST))
