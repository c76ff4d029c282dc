"""Rows of stores that knew data by names and sizes are taken over where a tile of them is found equal."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import robustvit as rv
from robustvit.evaluation.run import run
from robustvit.primitives.batch import Data
from robustvit.records.records import read
from robustvit.records.store import Store

SUITE = """name: s
title: S
data: digits
scenarios:
  - clean
  - fog: {severity: 3}
  - autoattack: {eps: 4/255, version: fast}
  - uap: {eps: 8/255, train: digits, samples: 16, epochs: 1}
metrics: [top1]
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty digits as files of equal size."""
    digits = rv.load_data("digits")
    for i in range(40):
        sample = digits[i]
        path = tmp_path / "images" / str(sample.label) / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
    return tmp_path / "images"


def as_before(data: Data) -> Data:
    """The data as earlier versions knew it, by names and sizes."""
    return replace(data, fingerprint=data.former_fingerprint, former_fingerprint="")


@pytest.fixture
def former(images: Path, tmp_path: Path) -> Path:
    """A store of an earlier version."""
    (tmp_path / "s.yaml").write_text(SUITE)
    store = tmp_path / "store"
    run(tmp_path / "s.yaml", ["demo"], as_before(rv.load_data(f"folder:{images}")), store=store, limit=40, keep=("adversarial",))
    shutil.rmtree(store / "samples")
    return store


def tables(store: Path) -> dict[str, list[str]]:
    place = Store(store)
    return {cell: read(place.files(cell)).to_json() for cell in place.cells()}


@pytest.mark.long
def test_rows_are_taken_over_with_all_that_was_kept_beside_them(former, images, tmp_path):
    before = tables(former)
    kept = len(list(former.glob("cells/*/*.safetensors")))
    done = run(tmp_path / "s.yaml", ["demo"], f"folder:{images}", store=former, limit=40, keep=("adversarial",))
    assert (done.taken_over, done.computed, done.complete) == (5, 0, 5)
    after = tables(former)
    assert sorted(after.values()) == sorted([*before.values(), *before.values()])
    assert len(list(former.glob("cells/*/*.safetensors"))) == 2 * kept > 0
    assert len(list(former.glob("cells/*/gallery-*.parquet"))) == 2 * 5
    again = run(tmp_path / "s.yaml", ["demo"], f"folder:{images}", store=former, limit=40, keep=("adversarial",))
    assert (again.taken_over, again.computed) == (0, 0)


@pytest.mark.long
def test_rows_of_other_images_under_the_same_names_are_not_taken_over(former, images, tmp_path):
    for path in images.rglob("*.bmp"):
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    done = run(tmp_path / "s.yaml", ["demo"], f"folder:{images}", store=former, limit=40, keep=("adversarial",))
    assert done.taken_over == 0
    assert done.computed == done.rows
