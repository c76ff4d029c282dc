"""Sequences of geometric transforms, against Pillow, OpenCV's bytes and direct formulas."""

import hashlib
import math

import numpy as np
import pytest
import torch
from PIL import Image

from robustvit.corruptions import sequences_moves as moves
from robustvit.corruptions.kernels.warps import Affine, perspective
from robustvit.primitives.pixels import of_levels, to_uint8

ENDS = [0, 7, 15, 24, 30]


def pillow(image: torch.Tensor, backward: Affine) -> np.ndarray:
    source = Image.fromarray(to_uint8(image)[0])
    return np.asarray(source.transform(source.size, Image.Transform.AFFINE, backward, Image.Resampling.BILINEAR))


def undoes(backward: Affine, forward: np.ndarray, centre: tuple[float, float]) -> bool:
    """Whether an affine map is the inverse of a 2×2 one about a centre."""
    back = np.linalg.inv(forward)
    return np.allclose(np.reshape(backward, (2, 3)), np.column_stack((back, centre - back @ centre)), rtol=0, atol=1e-12)


def projected(x: float, y: float, angle: float, focus: float) -> tuple[float, float, float]:
    """Projects the point (x, y, 1) of the plane into an image of 320 × 240, rotated about the vertical and then the horizontal axis."""
    across, depth = x * math.cos(angle) - math.sin(angle), x * math.sin(angle) + math.cos(angle)
    down, depth = y * math.cos(angle) - depth * math.sin(angle), y * math.sin(angle) + depth * math.cos(angle)
    return 160 + focus * across / (depth + focus), 120 + focus * down / (depth + focus), 1.0


@pytest.mark.parametrize("frame", [0, 1, 19, 20, 21, 40])
def test_translate_moves_by_whole_pixels_and_fills_with_black(noise_images, draws, frame) -> None:
    image, right = noise_images(1, 24, 50), frame - 20
    found = moves.translate_frame(image, draws(1), frame=frame)
    columns = torch.arange(50) - right
    inside = (columns >= 0) & (columns < 50)
    assert torch.equal(found[..., inside], image[..., columns[inside]])
    assert float(found[..., ~inside].sum()) == 0


@pytest.mark.parametrize("frame", ENDS)
def test_rotate_turns_clockwise_about_half_a_pixel_past_the_middle(noise_images, draws, frame) -> None:
    image, angle = noise_images(1, 40, 53), math.radians(frame - 15)
    backward = moves._inverse(image, angle=frame - 15)
    assert undoes(backward, np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]), (27.0, 20.5))
    assert np.array_equal(to_uint8(moves.rotate_frame(image, draws(1), frame=frame))[0], pillow(image, backward))


@pytest.mark.parametrize(("frame", "size"), [(0, 0.4), (12, 0.7), (24, 1.0), (30, 1.15)])
def test_scale_enlarges_about_half_a_pixel_past_the_middle(noise_images, draws, frame, size) -> None:
    image = noise_images(1, 40, 53)
    backward = moves._inverse(image, scale=size)
    assert undoes(backward, size * np.eye(2), (27.0, 20.5))
    assert np.array_equal(to_uint8(moves.scale_frame(image, draws(1), frame=frame))[0], pillow(image, backward))


@pytest.mark.parametrize("frame", ENDS)
def test_shear_tilts_the_vertical_axis_and_keeps_its_length(noise_images, draws, frame) -> None:
    image, lean = noise_images(1, 40, 53), math.radians(frame - 15)
    backward = moves._inverse(image, shear=frame - 15)
    assert undoes(backward, np.array([[1.0, -math.sin(lean)], [0.0, math.cos(lean)]]), (27.0, 20.5))
    assert np.array_equal(to_uint8(moves.shear_frame(image, draws(1), frame=frame))[0], pillow(image, backward))


def test_frames_without_movement_are_the_still_image(noise_images, draws) -> None:
    images = noise_images()
    for move, frame in ((moves.rotate_frame, 15), (moves.shear_frame, 15), (moves.scale_frame, 24), (moves.zoom_blur_frame, 0)):
        assert torch.equal(move(images, draws(2), frame=frame), images)


@pytest.mark.parametrize("frame", [1, 5, 30])
def test_zoom_blur_is_the_mean_of_the_enlargements_so_far(noise_images, draws, frame) -> None:
    image = noise_images(1)
    layers = [to_uint8(image)[0], *(pillow(image, moves._inverse(image, scale=1 + 0.004 * step)) for step in range(1, frame + 1))]
    total = np.zeros(layers[0].shape, dtype=np.float32)
    for layer in layers:
        total += layer.astype(np.float32) / np.float32(255)
    expected = np.uint8(total / np.float32(frame + 1) * np.float32(255))
    assert np.array_equal(to_uint8(moves.zoom_blur_frame(image, draws(1), frame=frame))[0], expected)


@pytest.mark.parametrize("frame", [0, 15, 30])
def test_tilt_takes_the_middle_and_the_corner_where_perspective_has_them(frame) -> None:
    matrix = moves._tilted(240, 320, degrees=frame - 15)
    for column, row in ((160, 120), (0, 0)):
        found = matrix @ (column, row, 1)
        assert np.allclose(found / found[2], projected(column - 160, row - 120, math.radians(frame - 15), focus=400.0))


@pytest.mark.parametrize("frame", [0, 7, 15, 16, 30])
def test_tilt_is_opencvs_warp_but_for_its_parts_of_a_pixel(draws, frame) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    image = of_levels(torch.arange(60.0)[:, None] + 2 * torch.arange(80.0)).expand(1, 3, -1, -1)
    expected = cv2.warpPerspective(to_uint8(image)[0], moves._tilted(60, 80, degrees=frame - 15), (80, 60)).astype(int)
    found = to_uint8(moves.tilt_frame(image, draws(1), frame=frame))[0].astype(int)
    assert np.abs(found - expected).max() <= 4  # 1/64 pixel at the brightest edge, 217 levels above black
    assert np.abs(found - expected).mean() < 0.1


@pytest.mark.parametrize(
    ("frame", "bytes_of_3_4_18"),
    [(0, "da20b198d5406471"), (8, "6fe7fb12cd6d95ee"), (15, "ec0a49f5c3140462"), (30, "4690d9575a05f4f8")],
)
def test_tilt_gives_the_bytes_of_opencv_3(draws, frame, bytes_of_3_4_18) -> None:
    rows, columns, channels = np.mgrid[:60, :80, :3]
    levels = (7 * columns + 13 * rows + 29 * channels + rows * columns) % 256
    image = of_levels(torch.from_numpy(levels).permute(2, 0, 1)[None])
    found = to_uint8(moves.tilt_frame(image, draws(1), frame=frame))[0]
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == bytes_of_3_4_18


def test_perspective_rounds_halves_up_and_mixes_with_black_at_the_edge() -> None:
    image = of_levels(torch.tensor([[10, 13, 200]])).expand(1, 3, 2, 3)
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert to_uint8(perspective(image, half))[0, 0, :, 0].tolist() == [5, 12, 107]
    assert torch.equal(perspective(image, np.eye(3)), image)
