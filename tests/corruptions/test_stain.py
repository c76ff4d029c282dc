"""Stains: the jitter that does nothing, and one stain doubled."""

import numpy as np
import torch

from robustvit.corruptions import stain
from robustvit.primitives.pixels import of_levels, to_uint8

MATRIX = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def test_no_jitter_is_the_identity_on_every_level() -> None:
    levels = torch.stack([torch.arange(256), torch.arange(256).flip(0), torch.full((256,), 90)]).view(1, 3, 16, 16)
    images = of_levels(levels)
    assert torch.equal(stain._stain_jitter(images, torch.zeros(1, 2, 3)), images)


def test_a_slide_without_stain_stays_white_when_stains_are_scaled(flat) -> None:
    jitter = torch.tensor([[[0.4, -0.4, 0.2], [0.0, 0.0, 0.0]]])
    assert torch.equal(stain._stain_jitter(flat(255), jitter), flat(255))


def test_twice_as_much_of_the_only_stain_squares_what_comes_through() -> None:
    once = of_levels(torch.tensor([127, 63, 31]).view(1, 3, 1, 1))  # 1/2, 1/4 and 1/8 of the light
    twice = stain._stain_jitter(once, torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]))
    assert to_uint8(twice).ravel().tolist() == [63, 15, 3]


def test_jitter_acts_on_the_stains_of_ruifrok_and_johnston(noise_images) -> None:
    jitter = np.array([[0.1, -0.2, 0.05], [0.02, 0.03, -0.04]])
    images = noise_images(1, 8, 8)
    density = -np.log((to_uint8(images).astype(float) + 1) / 256)
    stains = density @ np.linalg.inv(MATRIX) * (1 + jitter[0]) + jitter[1]
    expected = np.clip(np.rint(256 * np.exp(-(stains @ MATRIX)) - 1), 0, 255)
    assert np.array_equal(to_uint8(stain._stain_jitter(images, torch.tensor(jitter)[None])), expected)


def test_severity_scales_the_same_draw(noise_images, draws) -> None:
    images = noise_images(1).clamp(0.3, 0.7)
    near, far = (stain.stain_jitter(images, draws(1), severity=severity) - images for severity in (4, 5))
    assert float((near * far).sum() / (near.norm() * far.norm())) > 0.95
