"""Caustic refraction: Snell's law, bilinear sampling and the lighting."""

import math

import pytest
import torch

from robustvit.corruptions.imagenet_cbar import caustic


@pytest.mark.parametrize("slope", [0.1, 0.5, 2.0])
def test_a_ray_is_refracted_by_snells_law(slope) -> None:
    angle = math.atan(slope)
    inside = math.asin(math.sin(angle) / 4.0)
    bend = float(caustic._refraction(torch.tensor(slope**2, dtype=torch.float64)))
    assert bend * slope == pytest.approx(math.sin(angle - inside), abs=1e-12)


def test_a_ray_on_a_nearly_flat_surface_is_not_refracted() -> None:
    assert not caustic._refraction(torch.tensor([0.0, 0.001])).any()


def test_slopes_are_differences_of_zero_padded_neighbours() -> None:
    down, across = caustic._slopes(torch.tensor([[[1.0, 2.0], [5.0, 9.0]]]))
    assert down.tolist() == [[[5.0, 9.0], [-1.0, -2.0]]]
    assert across.tolist() == [[[2.0, -1.0], [9.0, -5.0]]]


def test_sampling_at_the_pixels_is_the_identity(noise_images) -> None:
    images = noise_images(1, 5, 6).double()
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    assert torch.equal(caustic._sample_bilinear(images, rows[None].double(), columns[None].double()), images)


def test_sampling_between_pixels_is_bilinear_and_black_beyond_the_edge() -> None:
    images = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]], dtype=torch.float64)
    rows, columns = torch.tensor([[[0.5, 0.0, -0.5, 3.0]]]).double(), torch.tensor([[[0.5, 0.25, 1.0, 0.0]]]).double()
    at = [
        float(caustic._sample_bilinear(images, rows[..., i : i + 1].expand(1, 2, 2), columns[..., i : i + 1].expand(1, 2, 2))[0, 0, 0, 0])
        for i in range(4)
    ]
    assert at == [6.0, 1.0, 2.0, 0.0]


def test_caustics_repeat_with_their_period(flat) -> None:
    light = caustic._caustics(flat(0, 32, 48), torch.tensor([[1.3, 16.0]]))
    assert torch.allclose(light[:, :16, :32], light[:, 16:, 16:], atol=1e-9)
    assert 0.0 <= float(light.min()) < 0.1 < float(light.max()) <= 1.0


def test_a_black_image_is_only_lit(flat, draws) -> None:
    lit = caustic.caustic_refraction(flat(0, 64, 64), draws(1), severity=5)
    assert torch.equal(lit[:, 0], lit[:, 1])
    assert float(lit.max()) > 0
