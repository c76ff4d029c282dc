"""Where the data sets of suites are looked for, and the message about those that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import LAYOUTS, plant

from robustvit.errors import DataMissing
from robustvit.evaluation.datasets import open_data
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import read_suite

SUITE = "name: mine\ntitle: Mine\ndata: [{}]\nscenarios: [clean]\nmetrics: [top1]\n"


def suite_on(tmp_path: Path, *data: str) -> Suite:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(", ".join(data)))
    return read_suite(path)


@pytest.mark.parametrize("given", ["all", "all/imagenet-9"])
def test_a_suite_on_one_data_set_takes_its_folder_or_the_one_above(tmp_path: Path, given: str) -> None:
    plant(tmp_path / "all/imagenet-9", LAYOUTS["imagenet-9, original"]())
    ((data, _),) = open_data(suite_on(tmp_path, "imagenet-9"), None, tmp_path / given)
    assert len(data) == 9


def test_all_missing_data_sets_are_named_at_once(tmp_path: Path) -> None:
    plant(tmp_path / "imagenet-a", LAYOUTS["imagenet-a"]())
    with pytest.raises(DataMissing, match=r"^2 data sets of suite 'mine' are missing: imagenet-r, imagenet-o\.") as caught:
        open_data(suite_on(tmp_path, "imagenet-r", "imagenet-a", "imagenet-o"), None, tmp_path)
    named = [name for name in ("imagenet-a", "imagenet-r", "imagenet-o") if f"nothing at {tmp_path / name}." in str(caught.value)]
    assert named == ["imagenet-r", "imagenet-o"]
