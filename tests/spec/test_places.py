"""Data sets of a suite file with a place, and suites whose data is here in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustvit as rv
from robustvit.errors import BadParameter, DataMissing, RobustvitError, SuiteError
from robustvit.records.store import Store
from robustvit.spec.suite_file import bind_data

TEXT = "name: s\ntitle: S\nscenarios: [clean]\nmetrics: [top1]\n"


def plant(root: Path, count: int) -> Path:
    """A folder of images of the demo's ten classes."""
    for digit in range(10):
        for i in range(count):
            place = root / str(digit) / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(100 * digit + i).integers(0, 256, (32, 32, 3), np.uint8)).save(place)
    return root


def test_a_relative_place_starts_from_the_file_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "study" / "mine", 1)
    page = tmp_path / "study" / "s.yaml"
    page.write_text(TEXT + "data: folder:mine\n")
    monkeypatch.chdir(tmp_path)
    done = rv.run(page, ["demo"], store=tmp_path / "r")
    assert (done.computed, done.failed) == (10, {})
    (question,) = Store(tmp_path / "r").questions()
    assert question.data == "folder"


def test_an_absolute_place_and_parameters(tmp_path: Path) -> None:
    root = plant(tmp_path / "elsewhere", 2)
    (tmp_path / "s.yaml").write_text(TEXT + f'data: ["folder:{root}?order=natural", digits]\n')
    done = rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r", limit=5)
    assert done.computed == 10
    assert {one.data for one in Store(tmp_path / "r").questions()} == {"folder", "digits"}


def test_data_on_the_command_line_comes_first(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: folder:nowhere\n")
    done = rv.run(tmp_path / "s.yaml", ["demo"], "digits", store=tmp_path / "r", limit=4)
    assert done.computed == 4


def test_a_place_that_is_not_there_is_named_whole(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: folder:nowhere\n")
    with pytest.raises(RobustvitError, match=str(tmp_path / "nowhere")):
        rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r")


def test_two_places_of_one_data_set_are_refused_and_told_apart_by_parameters(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: ['folder:a', 'folder:b']\n")
    with pytest.raises(SuiteError, match=r"s\.yaml:5: .*has two places, .*/a and .*/b; give one of them parameters of its own"):
        rv.load_suite(tmp_path / "s.yaml")


def test_only_a_file_gives_places() -> None:
    with pytest.raises(BadParameter, match="'folder:mine' says where files are, which only a suite file does"):
        bind_data("folder:mine")


def test_a_misspelt_kind_of_place_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: folderr:mine\n")
    with pytest.raises(RobustvitError):
        rv.load_suite(tmp_path / "s.yaml")


def test_missing_data_is_left_out_on_request_and_told(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: [digits, imagenet-a, imagenet-r]\n")
    with pytest.raises(DataMissing, match="2 data sets of suite 's' are missing: imagenet-a, imagenet-r"):
        rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r", data_dir=tmp_path)
    done = rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r", data_dir=tmp_path, skip_missing=True, limit=4)
    assert done.computed == 4
    assert [text for text in done.incomplete if "left out" in text] == [
        "imagenet-a is not here and is left out", "imagenet-r is not here and is left out",
    ]  # fmt: skip


def test_where_nothing_is_here_nothing_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "data: [imagenet-a, imagenet-r]\n")
    with pytest.raises(DataMissing, match="2 data sets"):
        rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r", data_dir=tmp_path, skip_missing=True)
