import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from robustvit.data.formats.arrays import array_dataset
from robustvit.errors import DataError, DataUnreadable
from robustvit.evaluation.images import cache_folder as cache
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.spec.view import View

VIEW = View(size=(24, 24), resize=28)
ALL = np.arange(150)


@pytest.fixture
def data():
    images = np.random.default_rng(0).integers(0, 256, (150, 20, 36, 3), dtype=np.uint8)
    return array_dataset("noise", images, np.zeros(150, int), ids=[f"noise/{i}" for i in range(150)], classes=["noise"])


class Broken:
    """Data whose images with an even number cannot be read."""

    def __init__(self, data):
        self.data = data

    def __getattr__(self, name):
        return getattr(self.data, name)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if index % 2 == 0:
            raise DataUnreadable(f"{self.data.ids[index]}: cut short")
        return self.data[index]


def test_rows_are_what_the_view_shows_of_the_samples_in_evaluation_order(data, tmp_path):
    images = ImageCache(data, VIEW, folder=tmp_path)
    ranks = np.array([149, 0, 64, 64, 7])
    seen = [np.asarray(VIEW.apply(Image.fromarray(data[i].image))) for i in images.order[ranks]]
    assert (images.rows(ranks) == np.stack(seen)).all()


def test_workers_change_no_pixel(data, tmp_path):
    alone, together = ImageCache(data, VIEW, folder=tmp_path / "0"), ImageCache(data, VIEW, workers=2, folder=tmp_path / "2")
    together.ensure(150)
    assert (alone.rows(ALL) == together.rows(ALL)).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_chunk_that_is_gone_cut_short_or_altered_is_built_again(data, tmp_path, workers):
    before = ImageCache(data, VIEW, folder=tmp_path).rows(ALL)
    gone, cut, altered = sorted(tmp_path.rglob("*.npy"))
    gone.unlink()
    os.truncate(cut, cut.stat().st_size // 2)
    pixels = altered.read_bytes()
    altered.write_bytes(pixels[:1000] + bytes([pixels[1000] ^ 1]) + pixels[1001:])  # one bit of one pixel
    assert (ImageCache(data, VIEW, workers=workers, folder=tmp_path).rows(ALL) == before).all()


def test_a_chunk_that_vanishes_under_an_open_cache_is_built_again(data, tmp_path):
    images = ImageCache(data, VIEW, folder=tmp_path)
    before = images.rows(ALL)
    assert cache.clear(tmp_path) > 0
    assert (images.rows(ALL) == before).all()


def test_a_second_reader_decodes_nothing(data, tmp_path):
    before = ImageCache(data, VIEW, folder=tmp_path).rows(ALL)
    unreadable = Broken(data)
    assert (ImageCache(unreadable, VIEW, folder=tmp_path).rows(ALL) == before).all()


def test_ensure_builds_the_prefix_and_reports_its_progress(data, tmp_path):
    reports = []
    ImageCache(data, VIEW, folder=tmp_path).ensure(65, lambda done, total: reports.append((done, total)))
    assert reports == [(64, 128), (128, 128)]
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("change", ["fingerprint", "view", "name"])
def test_other_data_and_other_views_are_kept_apart(data, tmp_path, change):
    other = data if change == "view" else replace(data, **{change: "other"})
    view = replace(VIEW, interpolation="bilinear") if change == "view" else VIEW
    assert ImageCache(data, VIEW, folder=tmp_path).folder != ImageCache(other, view, folder=tmp_path).folder


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_of_all_chunks_are_named_together(data, tmp_path, workers):
    with pytest.raises(DataUnreadable, match=r"75 of 150 images cannot be read: noise/\d+: cut short, .* and 70 more"):
        ImageCache(Broken(data), VIEW, workers=workers, folder=tmp_path).ensure(150)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_reported_with_the_folder_and_leaves_nothing_half_written(data, tmp_path, monkeypatch, workers):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=rf"{tmp_path}.*No space left.*ROBUSTVIT_CACHE"):
        ImageCache(data, VIEW, workers=workers, folder=tmp_path).ensure(150)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_usage_is_the_size_of_the_images_but_for_headers(data, tmp_path):
    ImageCache(data, VIEW, folder=tmp_path).ensure(100)
    assert 0 < cache.usage(tmp_path) - 128 * (24 * 24 * 3 + 24) < 2 * 512


def test_the_cache_lives_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    assert cache.usage() == 0
    assert cache.clear() == 0
