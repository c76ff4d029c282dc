"""Rows of a store stand for the images they were computed on: where those changed, nothing is added to them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustvit as rv
from robustvit.errors import DataUnreadable
from robustvit.evaluation.run import run
from robustvit.records.sample_digests import SampleDigests
from robustvit.spec.sample_order import order

SUITE = "name: s\ntitle: S\ndata: digits\nscenarios: [clean, {fog: {severity: [1, 2]}}]\nmetrics: [top1]\n"


def bmp(value: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (32, 32), (value, 7, 7)).save(sink, "BMP")
    return sink.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A hundred images in the ten classes of the demo."""
    for i in range(100):
        path = tmp_path / "images" / str(i % 10) / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bmp(i))
    return tmp_path / "images"


def replaced(images: Path, rank: int) -> str:
    """Replaces the image at a rank in evaluation order by another of the same size; returns its id."""
    data = rv.load_data(f"folder:{images}")
    position = order(data.ids)[rank]
    path = images / data.read.paths[position]
    path.write_bytes(bmp(255))
    os.utime(path, ns=(1, 1))
    return data.ids[position]


def suite(tmp_path: Path, text: str = SUITE) -> Path:
    (tmp_path / "s.yaml").write_text(text)
    return tmp_path / "s.yaml"


def test_an_image_that_changed_between_two_runs_is_named_and_no_row_is_added(images, tmp_path):
    page, store = suite(tmp_path), tmp_path / "store"
    run(page, ["demo"], f"folder:{images}", store=store, limit=90)
    name = replaced(images, 80)
    more = suite(tmp_path, SUITE.replace("[1, 2]", "[1, 2, 3]"))
    with pytest.raises(DataUnreadable, match=rf"1 of \d+ images are not those .*{name}.*--store"):
        run(more, ["demo"], f"folder:{images}", store=store, limit=90)
    assert len(list((store / "cells").glob("*/0*.parquet"))) == 3


def test_more_samples_of_the_same_images_are_added_to_the_table(images, tmp_path):
    page, store = suite(tmp_path), tmp_path / "store"
    for limit, files in ((10, ["000000-010"]), (90, ["000000-090"]), (20, ["000000-090"])):
        run(page, ["demo"], f"folder:{images}", store=store, limit=limit)
        assert [path.name[:10] for path in (store / "samples").rglob("*.parquet")] == files


def test_an_image_of_fleeting_data_that_changed_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setattr("robustvit.data.formats.fingerprint._READ", 2)
    clips = SUITE.replace("digits", "[{sequences: {data: digits, corruption: rotate_frame, size: 32}}]").replace("top1", "flip_rate")
    page, store = suite(tmp_path, clips.replace(", {fog: {severity: [1, 2]}}", "")), tmp_path / "store"
    run(page, ["demo"], f"folder:{images}", store=store, limit=5)
    for path in store.rglob("cells/*/0*.parquet"):
        path.unlink()
    name = replaced(images, 3)
    with pytest.raises(DataUnreadable, match=rf"31 of 155 images .*{name}#0"):
        run(page, ["demo"], f"folder:{images}", store=store, limit=5)


def digests(*values: int) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8)[:, None], 16, axis=1)


def test_what_is_kept_is_compared_and_what_is_new_is_kept(tmp_path):
    table = SampleDigests(tmp_path, "f", "d")
    table.keep(0, 0, ["a", "b"], digests(1, 2))
    table.keep(0, 1, ["b", "c"], digests(2, 3))
    table.keep(1, 0, ["z"], digests(9))
    again = SampleDigests(tmp_path, "f", "d")
    for start, ids, values in ((0, ["a"], [5]), (2, ["c", "d"], [5, 4])):
        with pytest.raises(DataUnreadable, match=f"data 'd': 1 of 1 images .*: {ids[0]}"):
            again.keep(0, start, ids, digests(*values))
    again.keep(0, 0, ["a", "b", "c"], digests(1, 2, 3))
    with pytest.raises(DataUnreadable, match="z"):
        again.keep(1, 0, ["z"], digests(8))


def test_a_table_that_is_cut_short_is_set_aside_and_written_anew(tmp_path):
    SampleDigests(tmp_path, "f", "d").keep(0, 0, ["a", "b"], digests(1, 2))
    (path,) = (tmp_path / "samples" / "f").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    again = SampleDigests(tmp_path, "f", "d")
    again.keep(0, 0, ["a", "b"], digests(1, 2))
    assert again.damaged == [path.with_suffix(".damaged")]
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".damaged"), path]
    with pytest.raises(DataUnreadable, match="b"):
        SampleDigests(tmp_path, "f", "d").keep(0, 0, ["a", "b"], digests(1, 3))


def test_a_run_says_that_a_damaged_table_was_made_again(images, tmp_path):
    page, store = suite(tmp_path), tmp_path / "store"
    assert run(page, ["demo"], f"folder:{images}", store=store, limit=90).repaired_digests == []
    (table,) = store.glob("samples/*/*.parquet")
    table.write_bytes(table.read_bytes()[:40])
    more = suite(tmp_path, SUITE.replace("[1, 2]", "[1, 2, 3]"))
    assert run(more, ["demo"], f"folder:{images}", store=store, limit=90).repaired_digests == [table.with_suffix(".damaged")]
    assert run(more, ["demo"], f"folder:{images}", store=store, limit=90).repaired_digests == []
    assert table.is_file()


def test_two_processes_that_keep_the_same_digests_at_once_leave_their_table(tmp_path):
    both, ids = [SampleDigests(tmp_path, "f", "d") for _ in range(2)], ["a", "b"]
    for one in both:
        one.keep(0, 0, [], np.empty((0, 16), np.uint8))  # each sees that there is no table yet
    for one in both:
        one.keep(0, 0, ids, np.ones((2, 16), np.uint8))
    assert list(SampleDigests(tmp_path, "f", "d").all()) == ids


def test_no_flipped_bit_of_a_table_is_believed_and_the_next_run_writes_it_anew(tmp_path):
    ids, digests = ["a", "b"], np.ones((2, 16), np.uint8)
    SampleDigests(tmp_path, "f", "d").keep(0, 0, ids, digests)
    (path,) = (tmp_path / "samples" / "f").iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert SampleDigests(tmp_path, "f", "d").all() == {}
    SampleDigests(tmp_path, "f", "d").keep(0, 0, ids, digests)
    assert path.read_bytes() == whole


def test_a_table_of_an_earlier_version_whose_name_has_no_digest_is_read(tmp_path):
    SampleDigests(tmp_path, "f", "d").keep(0, 0, ["a"], np.ones((1, 16), np.uint8))
    (path,) = (tmp_path / "samples" / "f").iterdir()
    path.rename(path.with_name("000000-001.parquet"))
    SampleDigests(tmp_path, "f", "d").keep(0, 1, ["b"], np.zeros((1, 16), np.uint8))
    assert list(SampleDigests(tmp_path, "f", "d").all()) == ["a", "b"]
    assert len(list((tmp_path / "samples" / "f").iterdir())) == 1
