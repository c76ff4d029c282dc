"""A data set is what it contains: equal names and sizes do not make two sets of images one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustvit as rv
from robustvit.data.formats.image_dataset import ImageDataset
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.primitives.batch import Data
from robustvit.spec.sample_order import order
from robustvit.spec.view import View

VIEW = View(size=(8, 8), resize=8)
CLASSES = ("ant", "bee")


def bmp(value: int) -> bytes:
    """An image of one colour; all of them have the same size in bytes."""
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 7, 7)).save(sink, "BMP")
    return sink.getvalue()


def folder(root: Path, contents: list[bytes]) -> Path:
    for i, content in enumerate(contents):
        path = root / CLASSES[i % 2] / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def opened_folder(root: Path, contents: list[bytes]) -> Data:
    return rv.load_data(f"folder:{folder(root, contents)}")


def opened_shards(root: Path, contents: list[bytes]) -> Data:
    root.mkdir(parents=True)
    with tarfile.open(root / "a.tar", "w") as tar:
        for i, content in enumerate(contents):
            info = tarfile.TarInfo(f"{CLASSES[i % 2]}/{i:03d}.bmp")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return rv.load_data(f"wds/{root}")


def opened_hub(root: Path, contents: list[bytes]) -> Data:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"image": [{"bytes": content, "path": None} for content in contents], "label": [i % 2 for i in range(len(contents))]}
    root.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "validation.parquet")
    return rv.load_data(f"hfds:{root}")


OPENERS = [opened_folder, opened_shards, opened_hub]


@pytest.mark.parametrize("opened", OPENERS)
def test_other_bytes_under_equal_names_and_sizes_are_other_data(opened, tmp_path):
    one, same, other = (opened(tmp_path / name, [bmp(i + add) for i in range(6)]) for name, add in (("a", 0), ("b", 0), ("c", 1)))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.former_fingerprint == other.former_fingerprint  # what earlier versions took them for


def test_the_bytes_of_the_first_64_samples_in_evaluation_order_are_read_and_no_others(tmp_path):
    contents = [bmp(i) for i in range(100)]
    data = opened_folder(tmp_path / "a", contents)
    place = {name: i for i, name in enumerate(data.ids)}
    ranked = [data.ids[i] for i in order(data.ids)]
    for rank, differs in ((0, True), (63, True), (64, False), (99, False)):
        number = int(ranked[rank].rpartition("/")[2].partition(".")[0])
        changed = [bmp(200) if i == number else content for i, content in enumerate(contents)]
        other = opened_folder(tmp_path / f"rank {rank}", changed)
        assert (other.fingerprint != data.fingerprint) == differs, (rank, place[ranked[rank]])


@pytest.mark.parametrize("opened", OPENERS)
def test_an_image_replaced_beyond_those_is_not_taken_from_the_cache(opened, tmp_path):
    contents = [bmp(i) for i in range(100)]
    data = opened(tmp_path / "a", contents)
    last = order(data.ids)[-1]
    contents[int(data.ids[last].rpartition("/")[2].partition(".")[0])] = bmp(200)
    other = opened(tmp_path / "b", contents)
    assert other.fingerprint == data.fingerprint
    seen = [ImageCache(one, VIEW, folder=tmp_path / "cache").rows_with_digests(np.arange(100)) for one in (data, other, data)]
    changed = [int((one.images[99] == 200).any()) for one in seen]
    assert changed == [0, 1, 0]
    assert [(one.digests != seen[0].digests).any(axis=1).nonzero()[0].tolist() for one in seen] == [[], [99], []]


def test_a_file_replaced_in_place_is_not_taken_from_the_cache(tmp_path):
    root = folder(tmp_path / "a", [bmp(i) for i in range(70)])
    data = rv.load_data(f"folder:{root}")
    ImageCache(data, VIEW, folder=tmp_path / "cache").ensure(70)
    last = data.read.paths[order(data.ids)[-1]]
    (root / last).write_bytes(bmp(250))
    os.utime(root / last, ns=(1, 1))
    again = ImageCache(rv.load_data(f"folder:{root}"), VIEW, folder=tmp_path / "cache").rows(np.array([69]))
    assert (again[0, :, :, 0] == 250).all()


def test_a_file_that_was_touched_is_read_again_and_no_image_is_decoded(tmp_path, monkeypatch):
    root = folder(tmp_path / "a", [bmp(i) for i in range(10)])
    data = rv.load_data(f"folder:{root}")
    before = ImageCache(data, VIEW, folder=tmp_path / "cache").rows(np.arange(10))
    for path in data.read.paths:
        os.utime(root / path, ns=(5, 5))
    monkeypatch.setattr("robustvit.data.formats.files.decode", lambda content, name: 1 / 0)
    again = ImageCache(rv.load_data(f"folder:{root}"), VIEW, folder=tmp_path / "cache")
    assert (again.rows(np.arange(10)) == before).all()
    monkeypatch.setattr(type(data.read), "content", lambda self, index: 1 / 0)
    assert (ImageCache(data, VIEW, folder=tmp_path / "cache").rows(np.arange(10)) == before).all()  # the new times are kept


def test_images_in_memory_keep_their_fingerprint(tmp_path):
    digits = rv.load_data("digits")
    assert isinstance(digits, ImageDataset)
    assert digits.former_fingerprint == ""
