"""Frost textures: their size, their files, and the resizing beside OpenCV's."""

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from robustvit.corruptions import kernels
from robustvit.corruptions.kernels import textures


def test_a_texture_is_a_tenth_larger_than_its_file() -> None:
    assert textures.frost_texture(0, 224, 224).shape == (3, 660, 991)


def test_a_texture_covers_an_image_larger_than_itself() -> None:
    _, height, width = textures.frost_texture(1, 700, 100).shape
    assert height == 771
    assert width > 560


def test_resizing_is_opencvs_to_a_level() -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    image = np.random.default_rng(0).integers(0, 256, (40, 31, 3), dtype=np.uint8)
    expected = cv2.resize(image, dsize=(35, 44), interpolation=cv2.INTER_CUBIC)
    difference = np.abs(textures.resize_cubic(image, 44, 35).astype(int) - expected)
    assert difference.max() <= 1


def test_the_files_are_those_of_imagecorruptions() -> None:
    package = importlib.util.find_spec("imagecorruptions")
    if package is None:
        pytest.skip("imagecorruptions is not installed: robustvit[imagecorruptions]")
    ours, theirs = resources.files(kernels) / "frost", Path(package.submodule_search_locations[0]) / "frost"
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in textures.FILES)


def test_the_folder_of_the_files_holds_their_licence() -> None:
    found = {file.name for file in (resources.files(kernels) / "frost").iterdir()}
    assert found == {*textures.FILES, "LICENSE", "NOTICE"}
