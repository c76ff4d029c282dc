"""Noise against its definitions."""

import numpy as np
import pytest
import torch

from robustvit.corruptions import noise
from robustvit.primitives.pixels import of_levels


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_gaussian_noise_is_the_truncated_sum(noise_images, draws, severity) -> None:
    images = noise_images(2)
    normal = draws(2).at("noise").normal(3, 24, 31).double()
    level = ((images.double() * 255).round() / 255 + normal * [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1]).clamp(0, 1) * 255
    assert torch.equal(noise.gaussian_noise(images, draws(2), severity=severity), of_levels(level.floor()))


def test_shot_noise_counts_photons(noise_images) -> None:
    counts = torch.tensor([[0, 1, 2, 30, 60, 61]])
    expected = of_levels(torch.tensor([[0, 4, 8, 127, 255, 255]]))
    assert torch.equal(noise._shot_noise(counts, 1), expected)


def test_shot_noise_leaves_black_black(flat, draws) -> None:
    assert torch.equal(noise.shot_noise(flat(0), draws(1), severity=5), flat(0))


def test_shot_noise_has_the_mean_and_the_variance_of_poisson(flat, draws) -> None:
    rate = 60 * 100 / 255
    counts = noise.shot_noise(flat(100, 96, 96), draws(1), severity=1).double() * 60
    assert float(counts.mean()) == pytest.approx(rate, abs=0.2)
    assert float(counts.var()) == pytest.approx(rate, rel=0.05)


def test_a_higher_severity_never_gives_more_photons(flat, draws) -> None:
    few, many = (noise.shot_noise(flat(100), draws(1), severity=s).double() * c for s, c in ((5, 3), (1, 60)))
    assert bool((few <= many + 0.3).all())


def test_impulse_noise_hits_up_to_its_amount_and_salts_half(noise_images) -> None:
    images = noise_images(1, 1, 2)
    hit = torch.tensor([0.03, 0.030001]).expand(1, 3, 1, 2)
    assert torch.equal(noise._impulse_noise(images, hit, torch.full((1, 3, 1, 2), 0.5), severity=1)[..., 0], torch.ones(1, 3, 1))
    assert torch.equal(noise._impulse_noise(images, hit, torch.full((1, 3, 1, 2), 0.51), severity=1)[..., 0], torch.zeros(1, 3, 1))
    assert torch.equal(noise._impulse_noise(images, hit, torch.zeros(1, 3, 1, 2), severity=1)[..., 1], images[..., 1])


def test_impulse_noise_agrees_with_scikit_image(noise_images) -> None:
    util = pytest.importorskip("skimage.util")
    images = noise_images(1)
    image = (images[0].permute(1, 2, 0).double() * 255).round().numpy() / 255
    expected = util.random_noise(image, mode="s&p", amount=0.09, rng=np.random.default_rng(3))
    random = np.random.default_rng(3)
    hit, salt = (torch.from_numpy(random.random(image.shape)).permute(2, 0, 1)[None] for _ in range(2))
    expected_levels = torch.from_numpy(np.uint8(expected * 255)).permute(2, 0, 1)[None]
    assert torch.equal(noise._impulse_noise(images, hit, salt, severity=3), of_levels(expected_levels))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_speckle_noise_is_zero_on_black_and_grows_with_brightness(flat, draws, severity) -> None:
    assert torch.equal(noise.speckle_noise(flat(0), draws(1), severity=severity), flat(0))
    given = torch.full((1, 3, 24, 24), -1.0)
    expected = np.uint8((100 / 255.0 - 100 / 255.0 * (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]) * 255)
    assert torch.equal(noise._speckle_noise(flat(100), given, severity), flat(int(expected)))
