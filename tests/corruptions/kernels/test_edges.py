"""Canny edges, distance transform and histogram equalisation against OpenCV, and exact values."""

import numpy as np
import pytest
import torch

from robustvit.corruptions.kernels import edges
from robustvit.primitives import compiled

SIZES = pytest.mark.parametrize("shape", [(64, 64), (33, 50), (3, 40)], ids=str)


def drops(shape: tuple[int, int]) -> np.ndarray:
    """Smooth spots on black."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 3.0) * np.cos(columns / 4.0) + np.sin((rows + columns) / 5.0)
    return np.where(waves > 0.6, waves * 120, 0).astype(np.uint8)


@SIZES
def test_edges_are_opencvs(shape) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    for levels in (drops(shape), np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8) // 4):
        found = edges.canny(torch.from_numpy(levels)[None])[0]
        assert np.array_equal(found.numpy(), cv2.Canny(levels, 50, 150) > 0)


@SIZES
def test_distances_are_opencvs_to_the_last_bit(shape) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    marks = np.random.default_rng(1).random(shape) < 0.01
    marks[0, 3] = True
    expected = cv2.distanceTransform(np.where(marks, 0, 255).astype(np.uint8), cv2.DIST_L2, 5).clip(0, 20)
    assert np.array_equal(edges.distance_transform(torch.from_numpy(marks)[None], 20.0)[0].numpy(), expected)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_distances_do_not_depend_on_the_bands_that_are_relaxed_at_once(monkeypatch, rows) -> None:
    marks = torch.from_numpy(np.random.default_rng(3).random((2, 90, 41)) < 0.004)
    monkeypatch.setattr(edges, "_BAND", 90)
    with compiled.without():
        expected = edges.distance_transform(marks, 20.0)
        monkeypatch.setattr(edges, "_BAND", rows)
        assert torch.equal(edges.distance_transform(marks, 20.0), expected)


@SIZES
def test_equalised_levels_are_opencvs(shape) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    for levels in (drops(shape), np.full(shape, 9, np.uint8), np.random.default_rng(2).integers(0, 21, shape).astype(np.uint8)):
        assert np.array_equal(edges.equalize_histogram(torch.from_numpy(levels)[None])[0].numpy(), cv2.equalizeHist(levels))


def test_distance_grows_by_steps_straight_and_across() -> None:
    marks = torch.zeros(1, 9, 9, dtype=torch.bool)
    marks[0, 4, 4] = True
    far = edges.distance_transform(marks, 3.0)[0]
    assert far[4, 4:].tolist() == [0, 1, 2, 3, 3]
    assert far[5, 5] == pytest.approx(1.4)
    assert far[3, 6] == pytest.approx(2.1969)


def test_without_marks_everything_is_at_the_limit() -> None:
    assert torch.equal(edges.distance_transform(torch.zeros(2, 5, 6, dtype=torch.bool), 20.0), torch.full((2, 5, 6), 20.0))


def test_a_flat_image_has_no_edges() -> None:
    assert not edges.canny(torch.full((1, 8, 8), 200)).any()


def test_neighbourhoods_are_mirrored_at_the_edge_pixel() -> None:
    row = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert edges.filter_3x3(row, ((0, 0, 0), (1, 0, 0), (0, 0, 0))).tolist() == [[[2.0, 1.0, 2.0]]]
