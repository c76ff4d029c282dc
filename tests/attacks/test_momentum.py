"""Momentum, Nesterov steps, scaled copies, input diversity and blurred gradients."""

import numpy as np
import torch
from exact import classifier, images, linear
from scipy.ndimage import convolve
from torch import nn

from robustvit.attacks.momentum import blur, di_fgsm, mi_fgsm, ni_fgsm, resized_and_padded, si_ni_fgsm
from robustvit.primitives.draws import Draws

IDS = tuple(str(i) for i in range(8))


def test_on_a_linear_model_momentum_and_nesterov_steps_change_nothing() -> None:
    model, _ = linear()
    pixels = images(8)
    labels = model(pixels).argmax(dim=1)
    first, *others = (
        attack(model, pixels, labels, Draws(0, "x", IDS), eps=0.02, early=False).images for attack in (mi_fgsm, ni_fgsm, si_ni_fgsm)
    )
    assert all(torch.allclose(first, other, atol=1e-6) for other in others)
    assert torch.allclose((first - pixels).abs(), torch.full_like(pixels, 0.02), atol=1e-6)


def test_a_gradient_is_blurred_as_by_a_plain_convolution() -> None:
    gradient = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 9, 9)))
    offsets = np.arange(5) - 2
    bell = np.exp(-(offsets**2) / 2)
    kernel = np.outer(bell, bell) / bell.sum() ** 2
    expected = [[convolve(plane, kernel, mode="constant") for plane in image] for image in gradient.numpy()]
    assert np.allclose(blur(gradient, 5, 1.0), expected)


def test_an_image_is_resized_and_padded_as_its_numbers_say() -> None:
    pixels = torch.arange(1.0, 17.0).view(1, 1, 4, 4).expand(3, 1, 4, 4) / 16
    uniforms = torch.tensor([[0.9, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.99], [0.1, 1.0, 0.0, 0.0]])
    found = resized_and_padded(pixels, uniforms, chance=0.5, smallest=0.5)
    assert torch.equal(found[0], pixels[0])
    assert (16 * found[1, 0]).tolist() == [[0, 0, 1, 3], [0, 0, 9, 11], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(found[2], pixels[2])


def test_an_image_that_is_not_square_is_resized_by_the_same_share_of_both_sides() -> None:
    pixels = torch.ones(1, 3, 4, 8)
    found = resized_and_padded(pixels, torch.tensor([[0.0, 0.0, 0.99, 0.0]]), chance=1.0, smallest=0.5)
    assert found[0, 0].tolist() == [[0.0] * 8, [0.0] * 8, [1.0] * 4 + [0.0] * 4, [1.0] * 4 + [0.0] * 4]


def test_input_diversity_without_chance_is_momentum_alone() -> None:
    model, _ = linear()
    pixels = images(8)
    labels, draws = model(pixels).argmax(dim=1), Draws(0, "x", IDS)
    both = [mi_fgsm(model, pixels, labels, draws, eps=0.02), di_fgsm(model, pixels, labels, draws, eps=0.02, chance=0.0)]
    assert torch.allclose(both[0].images, both[1].images, atol=1e-6)


class Curved(nn.Module):
    """Logits whose gradient changes with the pixels."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack((pixels.square().sum(dim=(1, 2, 3)), (60.0 * pixels).sin().sum(dim=(1, 2, 3))), dim=1)


def test_nesterov_steps_ahead_along_momentum_of_mean_one() -> None:
    model, pixels = classifier(Curved()), images(8)
    labels = model(pixels).argmax(dim=1)
    found = ni_fgsm(model, pixels, labels, Draws(0, "x", IDS), eps=0.06, steps=3, early=False).images
    at, momentum = pixels.clone(), torch.zeros_like(pixels)
    for _ in range(3):
        leaf = (at + 0.02 * momentum).clamp(0, 1).requires_grad_(True)
        gradient = torch.autograd.grad(nn.functional.cross_entropy(model(leaf).double(), labels, reduction="sum"), leaf)[0]
        momentum = momentum + gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        at = (at + 0.02 * momentum.sign()).clamp(0, 1)
    assert torch.allclose(found, at, atol=1e-6)
    plain = mi_fgsm(model, pixels, labels, Draws(0, "x", IDS), eps=0.06, steps=3, early=False).images
    assert not torch.allclose(found, plain, atol=1e-3)
