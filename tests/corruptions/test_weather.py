"""Weather: exact values on simple images."""

import numpy as np
import pytest
import torch

from robustvit.corruptions import weather
from robustvit.corruptions.kernels.textures import frost_photograph, frost_texture
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels, to_uint8

EVERY = [1, 2, 3, 4, 5]


@pytest.mark.parametrize("severity", EVERY)
@pytest.mark.parametrize("level", [0, 77, 200, 255])
def test_brightness_adds_to_grey(flat, severity, level) -> None:
    expected = np.uint8(min(1.0, level / 255.0 + severity * 1.0 / 10) * 255)
    assert torch.equal(weather._brightness(flat(level), severity), flat(int(expected)))


def test_brightness_keeps_the_hue_of_a_colour() -> None:
    colour = of_levels(torch.tensor([51, 102, 26])).view(1, 3, 1, 1)
    assert to_uint8(weather._brightness(colour, 3)).ravel().tolist() == [89, 178, 45]  # all times 1.75


@pytest.mark.parametrize(("severity", "level"), [(1, 240), (2, 220), (3, 210), (4, 200), (5, 195)])
def test_frost_is_the_weighted_sum_of_image_and_texture(flat, severity, level) -> None:
    ice = torch.full((1, 3, 24, 24), 100, dtype=torch.uint8)
    assert torch.equal(weather._frost(flat(200), ice, severity), flat(level))


def test_frost_differs_between_samples(flat, draws) -> None:
    frozen = weather.frost(flat(0).expand(4, -1, -1, -1), draws(4), severity=3)
    assert len({image.numpy().tobytes() for image in frozen}) == 4


def test_frost_takes_the_photographs_at_their_own_size(flat, draws) -> None:
    black = flat(0, 60, 50)
    frozen = to_uint8(weather.frost(black, draws(1), severity=1))[0]
    index, (top, left) = int(draws(1).at("texture").integers(low=0, high=5)), draws(1).at("place").words(2)[0].tolist()
    photograph = frost_photograph(index)
    top, left = (top * (photograph.shape[0] - 60)) >> 32, (left * (photograph.shape[1] - 50)) >> 32
    assert np.array_equal(frozen, np.uint8(photograph[top : top + 60, left : left + 50] * 0.4))


def test_frost_of_an_image_larger_than_a_photograph_covers_it(flat, draws) -> None:
    assert to_uint8(weather.frost(flat(0, 900, 1200), draws(1), severity=5)).mean() > 10


def test_imagecorruptions_frost_has_the_draws_of_version_1_of_frost(flat) -> None:
    images, first, own = flat(90, 40, 40), Draws(3, "corruption/frost", ["a"]), Draws(3, "corruption/frost_imagecorruptions", ["a"])
    texture = frost_texture(int(first.at("texture").integers(low=0, high=5)), 40, 40)
    ice = weather._ice(texture, first.at("place").words(2)[0].tolist(), images)
    assert torch.equal(weather.frost_imagecorruptions(images, own, severity=2), weather._frost(images, ice[None], 2))


def test_fog_leaves_a_black_image_black(flat, draws) -> None:
    assert torch.equal(weather.fog(flat(0), draws(1), severity=5), flat(0))


def test_fog_spans_its_thickness_on_a_flat_image(flat, draws) -> None:
    fogged = to_uint8(weather.fog(flat(255, 32, 32), draws(1), severity=1))
    assert fogged.min() == int(1 / 2.5 * 255)
    assert fogged.max() == 255


def test_snow_without_flakes_only_whitens(flat) -> None:
    flakes = torch.full((1, 24, 24), -9.0)
    whitened = weather._snow(flat(102), flakes, torch.tensor([-90.0]), severity=1)
    assert to_uint8(whitened).ravel()[0] == int(255 * (0.8 * 0.4 + 0.2 * (1.5 * 0.4 + 0.5)))
    assert torch.equal(whitened, whitened[..., :1, :1].expand_as(whitened))


def test_snow_is_symmetric_under_a_rotation_by_180_degrees(flat, draws) -> None:
    snowed = weather.snow(flat(0, 40, 30), draws(1), severity=2)
    assert torch.equal(snowed, snowed.flip(2, 3))


@pytest.mark.parametrize("severity", EVERY)
def test_an_image_without_drops_is_unchanged(noise_images, severity) -> None:
    image = noise_images(2)
    assert torch.equal(weather._spatter(image, torch.full((2, 24, 31), -9.0), severity), image)


def test_mud_is_brown_where_it_is_thick(flat) -> None:
    found = to_uint8(weather._spatter(flat(200), torch.full((1, 24, 24), 9.0), 5))
    assert found.reshape(-1, 3).min(axis=0).tolist() == found.reshape(-1, 3).max(axis=0).tolist() == [63, 42, 20]


def test_water_only_brightens_and_never_past_its_colour(flat, draws) -> None:
    found = to_uint8(weather.spatter(flat(0, 64, 64), draws(1), severity=1))
    assert 0 < found[..., 0].max() <= int(0.6 * 175)
    assert found[..., 2].max() == int(0.6 * 238)


def test_water_above_a_byte_wraps_around(noise_images) -> None:
    drop = torch.zeros(1, 24, 31, dtype=torch.float64)
    drop[:, 4:18, 5:20], drop[:, 8:12, 9:14] = 200.5 / 255, 260.5 / 255
    wrapped = torch.where(drop > 1, 4.5 / 255, drop)
    start = noise_images(1)
    assert torch.equal(weather.rain(start, drop, 0.5), weather.rain(start, wrapped, 0.5))
