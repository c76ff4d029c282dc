"""Images that cannot be read, and duplicates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import LAYOUTS, plant, plant_images
from PIL import Image

from robustvit.cli.commands.data_check import covers, verify
from robustvit.data.folder import folder
from robustvit.data.formats.files import FileDataset
from robustvit.data.imagenet import imagenet
from robustvit.evaluation.loading import load_data
from robustvit.primitives.content import read_digested
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store
from robustvit.spec.sample_order import order


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plant_images(tmp_path, ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"])
    return tmp_path


def opened(root: Path) -> FileDataset:
    return folder(root)


def test_different_images_that_can_be_read_are_right(tree: Path) -> None:
    verdict = verify(opened(tree))
    assert (verdict.images, verdict.unreadable, verdict.same, verdict.clashing, verdict.right) == (4, (), (), (), True)


def test_equal_images_of_one_label_are_reported_and_of_several_are_wrong(tree: Path) -> None:
    (tree / "cat/5.png").write_bytes((tree / "cat/1.png").read_bytes())
    verdict = verify(opened(tree))
    assert (verdict.same, verdict.clashing, verdict.right) == ((("folder/cat/1.png", "folder/cat/5.png"),), (), True)
    (tree / "dog/6.png").write_bytes((tree / "cat/1.png").read_bytes())
    verdict = verify(opened(tree))
    assert (verdict.same, verdict.right) == ((), False)
    assert verdict.clashing == (("folder/cat/1.png", "folder/cat/5.png", "folder/dog/6.png"),)


def test_damaged_images_are_named_and_never_equal(tree: Path) -> None:
    for name in ("cat/2.png", "dog/3.png"):
        (tree / name).write_bytes(b"no image")
    verdict = verify(opened(tree))
    assert [reason.partition(":")[0] for reason in verdict.unreadable] == ["folder/cat/2.png", "folder/dog/3.png"]
    assert (verdict.clashing, verdict.right) == ((), False)


def test_an_image_of_another_size_than_released_is_unreadable(tmp_path: Path) -> None:
    root = plant(tmp_path, LAYOUTS["imagenet-9, original"]())
    Image.new("RGB", (100, 80)).save(root / "bg_challenge/original/val/00_dog/fg_x.JPEG")
    verdict = verify(load_data("imagenet-9", data_dir=root))
    assert [reason.rpartition("fg_x.JPEG: ")[2] for reason in verdict.unreadable] == [
        "80x100 pixels; the images of 'imagenet-9' are 224x224"
    ]


def test_data_that_is_not_files_is_compared_by_its_pixels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    images[5] = images[1]
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 0, 1, 1, 1, 1]))
    verdict = verify(load_data(f"npz:{tmp_path / 'x.npz'}"))
    assert [len(ids) for ids in verdict.clashing] == [2]


def test_progress_is_reported_to_the_end(tree: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    verify(opened(tree), lambda *now: reports.append(now))
    assert reports == [(4, 4, "verifying folder")]


def test_a_part_of_a_set_is_covered_by_the_whole(tmp_path: Path) -> None:
    whole, part = (imagenet(plant(tmp_path, LAYOUTS["imagenet, sorted"]()), classes=classes) for classes in ("all", "imagenet-a"))
    assert covers(whole, part)
    assert not covers(part, whole)
    assert not covers(None, whole)


def test_verify_compares_every_image_with_those_that_a_store_was_computed_on(tmp_path: Path, robustvit: Any) -> None:
    for i in range(70):
        path = tmp_path / "images" / str(i % 10) / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 7, 7)).save(path)
    data = load_data(f"folder:{tmp_path / 'images'}")
    digests = np.stack([np.frombuffer(read_digested(data, i).digest, np.uint8) for i in range(70)])
    positions = order(data.ids)
    Store(tmp_path / "store", create=True)
    SampleDigests(tmp_path / "store", data.fingerprint, "folder").keep(0, 0, [data.ids[i] for i in positions], digests[positions])
    words = ["data", "folder", "--data-dir", tmp_path / "images", "--verify", "--store", tmp_path / "store"]
    assert "70 are those of the store" in robustvit(*words).out
    last = positions[-1]  # beyond those whose bytes are in the fingerprint
    Image.new("RGB", (8, 8), (200, 7, 7)).save(tmp_path / "images" / data.read.paths[last])
    done = robustvit(*words)
    assert done.code == 1
    assert f"wrong: 1 are not those that the store's rows were computed on: {data.ids[last]}" in done.out
