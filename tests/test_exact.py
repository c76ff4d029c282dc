"""Models of `exact` compute what they say."""

from __future__ import annotations

import exact
import pytest
import torch
from torch import Tensor
from torch.nn import functional


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "patch"), [(1, 4), (3, 4), (5, 2), (9, 4)])
@pytest.mark.parametrize("circular", [False, True])
def test_attention_computes_a_convolution(kernel: int, patch: int, circular: bool) -> None:
    weight, images = drawn(5, 3, kernel, kernel), drawn(2, 3, 16, 12, seed=1)
    pad = kernel // 2
    padded = functional.pad(images, (pad,) * 4, mode="circular" if circular else "constant")
    found = exact.ConvolutionAsAttention(weight, patch, circular=circular)(images)
    torch.testing.assert_close(found, functional.conv2d(padded, weight), rtol=0, atol=1e-12)


def test_a_softmax_of_positions_comes_near_it_as_it_sharpens() -> None:
    weight, images = drawn(2, 3, 3, 3), drawn(2, 3, 16, 16, seed=1)
    whole = exact.ConvolutionAsAttention(weight, 4, circular=False)(images)
    soft = [exact.ConvolutionAsAttention(weight, 4, circular=False, sharpness=bias)(images) for bias in (10, 20, 40)]
    errors = [float((one - whole).abs().max()) for one in soft]
    assert 1e-4 < errors[0] < 1e-1
    assert errors[1] == pytest.approx(errors[0] * float(torch.tensor(-10.0).exp()), rel=0.05)
    assert errors[2] < 1e-13


def test_whole_patch_shifts_commute_with_circular_patches_and_not_with_zeros() -> None:
    weight, images = drawn(5, 3, 3, 3), drawn(2, 3, 16, 16, seed=1)
    for circular in (True, False):
        layer = exact.ConvolutionAsAttention(weight, 4, circular=circular)
        apart = (layer(images.roll((4, -8), (2, 3))) - layer(images).roll((4, -8), (2, 3))).abs().max()
        assert (float(apart) < 1e-12) is circular


def test_its_classifier_does_not_see_shifts() -> None:
    model = exact.conv_as_attention(drawn(6, 3, 3, 3), 4, drawn(4, 6, seed=2), 16)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    logits = model(images)
    assert logits.std() > 1e-2
    for shift in ((4, 0), (0, 12), (8, 4), (1, 3)):
        torch.testing.assert_close(model(images.roll(shift, (2, 3))), logits, rtol=0, atol=1e-12)
