"""Pictures of frost."""

import sys

import numpy as np
import pytest
from PIL import Image

from robustvit.corruptions.kernels import textures
from robustvit.errors import DataMissing, MissingExtra


@pytest.fixture(autouse=True)
def _forget():
    textures.frost_texture.cache_clear()
    yield
    textures.frost_texture.cache_clear()


def test_a_texture_is_a_tenth_larger_than_its_file() -> None:
    assert textures.frost_texture(0, 224, 224).shape == (3, 660, 991)


def test_a_texture_covers_a_picture_larger_than_itself() -> None:
    _, height, width = textures.frost_texture(1, 700, 100).shape
    assert height == 771
    assert width > 560


def test_resizing_is_opencvs_to_a_level(tmp_path) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    picture = np.random.default_rng(0).integers(0, 256, (40, 31, 3), dtype=np.uint8)
    expected = cv2.resize(picture, dsize=(35, 44), interpolation=cv2.INTER_CUBIC)
    difference = np.abs(textures.resized(picture, 44, 35).astype(int) - expected)
    assert difference.max() <= 1


def test_textures_are_read_without_importing_their_package(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "imagecorruptions", raising=False)
    textures.frost_texture(2, 32, 32)
    assert "imagecorruptions" not in sys.modules


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr(textures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install imagecorruptions"):
        textures.frost_texture(0, 32, 32)


def test_a_missing_file_is_named(monkeypatch, tmp_path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "frost1.png")
    monkeypatch.setattr(textures, "_folder", lambda: tmp_path)
    assert textures.frost_texture(0, 32, 32).shape == (3, 36, 36)
    with pytest.raises(DataMissing, match=r"frost2\.png"):
        textures.frost_texture(1, 32, 32)
