"""Resampling against a loop over pixels, against torchvision, and against turns and shifts that only copy pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.maps import affine_maps, image_corners, perspective_maps, turned
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.geometry.whole_shifts import shifted

BORDERS: tuple[Border, ...] = ("zeros", "edge", "reflect", "circular")
NUMPY = {"zeros": "constant", "edge": "edge", "reflect": "reflect", "circular": "wrap"}
ROOM = 40  # pixels of border that numpy adds, more than any map here reads


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bilinear_by_loop(image: np.ndarray, inverse: np.ndarray, border: str) -> np.ndarray:
    """Pixel by pixel, on an image that numpy padded by its own rule. inverse: of (x, y, 1) from the centre."""
    channels, height, width = image.shape
    padded = np.pad(image.astype(np.float64), ((0, 0), (ROOM, ROOM), (ROOM, ROOM)), mode=NUMPY[border])
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y, z = inverse @ np.array([column - (width - 1) / 2, row - (height - 1) / 2, 1.0])
            left, top = x / z + (width - 1) / 2 + ROOM, y / z + (height - 1) / 2 + ROOM
            c, r = math.floor(left), math.floor(top)
            p, q = left - c, top - r
            for channel in range(channels):
                plane = padded[channel]
                out[channel, row, column] = (
                    (1 - q) * ((1 - p) * plane[r, c] + p * plane[r, c + 1]) + q * ((1 - p) * plane[r + 1, c] + p * plane[r + 1, c + 1])
                )  # fmt: skip
    return out


def by_hand(degrees: float, right: float, down: float, scale: float, shear: float) -> np.ndarray:
    """The inverse of: shear along x, scale, turn clockwise (y is down), move."""
    a, s = math.radians(degrees), math.radians(shear)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    lean = np.array([[1, -math.tan(s), 0], [0, 1, 0], [0, 0, 1]])
    move = np.array([[1, 0, right], [0, 1, down], [0, 0, 1]])
    return np.linalg.inv(move @ turn @ np.diag([scale, scale, 1.0]) @ lean)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("given", [(17.3, 1.6, -2.25, 1.1, 7.0), (-123.0, 0.5, 3.0, 0.8, -10.0), (0.0, -1.25, 0.0, 1.0, 0.0)], ids=str)
def test_an_affine_map_is_that_of_a_loop_over_pixels(border: Border, given: tuple[float, ...]) -> None:
    pictures = images(2, 11, 8)
    maps = affine_maps(*(torch.full((2,), value, dtype=torch.float64) for value in given))
    assert np.allclose(maps[0].numpy(), by_hand(*given), atol=1e-12)
    found = resampled(pictures, maps, border)
    expected = [bilinear_by_loop(one.numpy(), by_hand(*given), border) for one in pictures]
    assert np.allclose(found.numpy(), np.stack(expected), atol=1e-6)


@pytest.mark.parametrize("border", BORDERS)
def test_a_perspective_is_that_of_a_loop_over_pixels_and_moves_the_corners_where_it_is_told(border: Border) -> None:
    height, width = 12, 9
    corners = image_corners(height, width) + of(1.2, 0.4, -0.7, 2.0, -1.5, -0.3, 0.9, -2.2).view(4, 2)
    (inverse,) = perspective_maps(corners[None], height, width)
    landed = torch.cat((corners, torch.ones(4, 1, dtype=torch.float64)), dim=1) @ inverse.T
    assert torch.allclose(landed[:, :2] / landed[:, 2:], image_corners(height, width), atol=1e-12)
    (pictures,) = images(1, height, width)
    found = resampled(pictures[None], inverse[None], border)[0]
    assert np.allclose(found.numpy(), bilinear_by_loop(pictures.numpy(), inverse.numpy(), border), atol=1e-6)


def test_torchvision_agrees_on_affine_and_perspective_maps() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    bilinear = pytest.importorskip("torchvision.transforms").InterpolationMode.BILINEAR
    pictures = images(1, 24, 31)
    maps = affine_maps(of(21.0), of(3.0), of(-2.0), of(0.9), of(8.0))
    theirs = functional.affine(pictures, 21.0, [3, -2], 0.9, [8.0, 0.0], interpolation=bilinear)
    assert torch.allclose(resampled(pictures, maps, "zeros"), theirs, atol=2e-5)
    start = [[0, 0], [30, 0], [30, 23], [0, 23]]
    end = [[3, 1], [28, 4], [27, 20], [1, 22]]
    corners = of(*(value for point in end for value in point)).view(1, 4, 2) - of(15, 11.5)
    theirs = functional.perspective(pictures, [[x + 0.5, y + 0.5] for x, y in start], [[x + 0.5, y + 0.5] for x, y in end], bilinear)
    assert torch.allclose(resampled(pictures, perspective_maps(corners, 24, 31), "zeros"), theirs, atol=1e-4)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (6, 9), (8, 1)], ids=str)
def test_the_identity_returns_every_bit(border: Border, size: tuple[int, int]) -> None:
    pictures, nothing = images(3, *size), torch.zeros(3)
    assert torch.equal(resampled(pictures, affine_maps(nothing, nothing, nothing), border), pictures)
    if min(size) > 1:
        corners = image_corners(*size).expand(3, -1, -1)
        assert torch.allclose(resampled(pictures, perspective_maps(corners, *size), border), pictures, atol=1e-6)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("quarters", [-1, 1, 2, 3, 4])
def test_quarter_turns_of_a_square_are_rot90(side: int, quarters: int) -> None:
    pictures = images(2, side, side)
    maps = affine_maps(torch.full((2,), 90.0 * quarters), torch.zeros(2), torch.zeros(2))
    assert torch.equal(resampled(pictures, maps, "zeros"), torch.rot90(pictures, -quarters, (2, 3)))


@pytest.mark.parametrize("border", BORDERS)
def test_shifts_by_whole_pixels_copy_pixels(border: Border) -> None:
    pictures, down, right = images(5, 6, 9), of(0, 2, -3, 5, -5), of(0, -4, 1, 8, 2)
    shifts = torch.stack((down, right), dim=1).long()
    found = shifted(pictures, shifts, border)
    assert torch.equal(resampled(pictures, affine_maps(torch.zeros(5), right, down), border), found)
    for one, (d, r), result in zip(pictures, shifts.tolist(), found, strict=True):
        padded = np.pad(one.numpy(), ((0, 0), (9, 9), (9, 9)), mode=NUMPY[border])
        assert np.array_equal(result.numpy(), padded[:, 9 - d : 15 - d, 9 - r : 18 - r])


def test_a_circular_shift_is_a_roll_and_an_image_far_from_its_place_is_black() -> None:
    pictures = images(2, 6, 6)
    assert torch.equal(shifted(pictures, torch.tensor([[2, -1], [-8, 3]]), "circular")[0], pictures[0].roll((2, -1), (1, 2)))
    assert torch.equal(shifted(pictures, torch.tensor([[2, -1], [-8, 3]]), "circular")[1], pictures[1].roll((-8, 3), (1, 2)))
    assert not shifted(pictures, torch.tensor([[6, 0], [0, -6]]), "zeros").any()


@pytest.mark.parametrize("moves", [(90.0, 2.0, -1.0), (270.0, -3.0, 0.0), (0.0, 1.0, 1.0)], ids=str)
def test_a_composed_map_is_its_steps_one_after_the_other_where_nothing_is_interpolated(moves: tuple[float, float, float]) -> None:
    pictures, (turn, right, down) = images(1, 7, 7), moves
    together = resampled(pictures, affine_maps(of(turn), of(right), of(down)), "zeros")
    turned_first = resampled(pictures, affine_maps(of(turn), of(0), of(0)), "zeros")
    assert torch.equal(together, resampled(turned_first, affine_maps(of(0), of(right), of(down)), "zeros"))


def test_gradients_with_respect_to_images_and_parameters_are_those_of_finite_differences() -> None:
    pictures = images(1, 5, 6).double().requires_grad_(True)
    given = [of(value).requires_grad_(True) for value in (13.0, 0.4, -1.3, 0.9, 4.0)]
    for border in BORDERS:
        assert torch.autograd.gradcheck(lambda *of: resampled(of[0], affine_maps(*of[1:]), border), (pictures, *given), eps=1e-7, atol=1e-5)  # noqa: B023
    corners = (image_corners(5, 6) + of(*[0.31, 0.17, -0.23, 0.41] * 2).view(4, 2))[None].requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a, b: resampled(a, perspective_maps(b, 5, 6), "zeros"), (pictures, corners), eps=1e-7, atol=1e-5)


def test_rows_do_not_depend_on_their_companions() -> None:
    pictures, angles = images(9, 20, 20), torch.linspace(-77, 80, 9)
    together = resampled(pictures, affine_maps(angles, angles / 50, angles / 60), "reflect")
    for row in range(9):
        one = angles[row : row + 1]
        assert torch.equal(resampled(pictures[row : row + 1], affine_maps(one, one / 50, one / 60), "reflect")[0], together[row])


def test_turns_are_exact_at_quarters_and_the_functions_of_the_angle_elsewhere() -> None:
    cosine, sine = turned(of(0, 90, 180, 270, -90, 360))
    assert cosine.tolist() == [1, 0, -1, 0, 0, 1]
    assert sine.tolist() == [0, 1, 0, -1, -1, 0]
    angles = torch.linspace(-400, 400, 97, dtype=torch.float64)
    assert torch.allclose(torch.stack(turned(angles)), torch.stack((torch.deg2rad(angles).cos(), torch.deg2rad(angles).sin())), atol=1e-13)
