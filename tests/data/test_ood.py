"""A data set beside folders of images of none of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation.datasets import place_of
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import NO_CLASS, traits
from robustvit.spec.suite_file import load_suite

DIGITS = 500


def draw(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 6, 3), level, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for level, name in enumerate(("near/a/1.png", "near/a/deep/er/2.png", "far/b/1.png", "far/c/1.png")):
        draw(tmp_path / "ood" / name, 10 * level)
    draw(tmp_path / "ood" / "elsewhere" / "1.png", 0)
    return tmp_path


def test_images_of_the_sets_follow_those_of_the_data_and_have_no_class(root: Path) -> None:
    data, digits = load_data("ood?data=digits", data_dir=root), load_data("digits")
    assert len(data) == DIGITS + 4
    assert data.ids[DIGITS:] == ("ood/near/a/1.png", "ood/near/a/deep/er/2.png", "ood/far/b/1.png", "ood/far/c/1.png")
    assert data.ids[:DIGITS] == digits.ids
    assert np.array_equal(data.labels, [*digits.labels, *[NO_CLASS] * 4])
    assert traits(data).facts["fact_ood"] == [*[""] * DIGITS, "near/a", "near/a", "far/b", "far/c"]
    assert np.array_equal(data[7].image, digits[7].image)
    assert [int(data[DIGITS + i].image[0, 0, 0]) for i in range(4)] == [0, 10, 20, 30]


def test_the_place_of_an_address_is_that_of_the_sets(root: Path) -> None:
    assert load_data(f"ood:{root / 'ood'}?data=digits").fingerprint == load_data("ood?data=digits", data_dir=root).fingerprint


def test_the_fingerprint_covers_the_data_and_the_sets(root: Path) -> None:
    before = load_data("ood?data=digits", data_dir=root).fingerprint
    draw(root / "ood" / "far" / "d" / "1.png", 3)
    assert load_data("ood?data=digits", data_dir=root).fingerprint != before
    (root / "ood" / "far" / "d" / "1.png").unlink()
    (root / "ood" / "far" / "d").rmdir()
    assert load_data("ood?data=digits", data_dir=root).fingerprint == before


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "ood" / "ninco" / "1.png", 0)
    with pytest.raises(DataMissing, match=r"holds no sets: give each a folder of its own, .*/near/NAME or .*It holds ninco\."):
        load_data("ood?data=digits", data_dir=tmp_path)


def test_a_set_without_images_is_refused(root: Path) -> None:
    (root / "ood" / "far" / "empty").mkdir()
    with pytest.raises(DataUnreadable, match="hold no images: far/empty"):
        load_data("ood?data=digits", data_dir=root)


def test_the_data_and_its_sets_lie_beside_each_other(root: Path) -> None:
    suite = load_suite("ood")
    assert place_of(suite, suite.data[0], root) == root
