"""Stores become one, each cell once; where they differ nothing is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustvit.errors import StoreDamaged, StoreError, StoreFull, UsageError
from robustvit.records.compacted.compaction import compact
from robustvit.records.records import read, rows, table
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store
from robustvit.records.upkeep.file_kinds import files_below
from robustvit.records.upkeep.merging import merge
from robustvit.records.upkeep.verification import verify
from robustvit.results.leaderboard import leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
RIGHT = np.arange(12) % 3 > 0


def first(columns: dict[str, Any], count: int) -> dict[str, Any]:
    return {name: values[:count] for name, values in columns.items()}


@pytest.mark.parametrize("packed", [(), ("a",), ("b",), ("a", "b")])
def test_the_cells_of_both_are_there_with_their_rows(make_store: Make, answered: Columns, packed: tuple[str, ...]) -> None:
    fog, snow = answered(RIGHT), answered(~RIGHT)
    a = make_store({("m", "fog", "1"): fog, ("m", "snow", "1"): first(snow, 4)}, name="a")
    b = make_store({("m", "snow", "1"): snow, ("n", "fog", "1"): snow}, name="b", started="2026-01-02T00:00:00+00:00")
    for name, store in (("a", a), ("b", b)):
        if name in packed:
            compact(store)
    kept = {path: path.read_bytes() for store in (a, b) for path in files_below(store.path)}
    done = merge([a.path, b.path], a.path.parent / "c")
    c = Store(a.path.parent / "c")
    assert set(c.cells()) == {*a.cells(), *b.cells()}
    assert {cell: rows(c.files(cell)) for cell in c.cells()} == dict.fromkeys(c.cells(), 12)
    for store in (b, a):
        for cell in store.cells():
            assert read(c.files(cell)).head(rows(store.files(cell))).equals(read(store.files(cell)))
    assert (done.kept, len(c.manifests())) == ([], 2)
    assert verify(c).faults == []
    assert {path: path.read_bytes() for path in kept} == kept
    again = merge([a.path, b.path], c.path)
    assert (again.cells, again.files, again.size) == (0, 0, 0)
    assert set(leaderboard(c.path)["model"]) == {"m", "n"}


def test_other_bits_of_the_same_rows_are_told_and_refused(make_store: Make, answered: Columns) -> None:
    fog = answered(RIGHT)
    a = make_store({("m", "fog", "1"): fog}, name="a")
    b = make_store({("m", "fog", "1"): {**fog, "nll": np.nextafter(np.asarray(fog["nll"], np.float32), 9)}}, name="b")
    with pytest.raises(
        StoreError, match=rf"1 conflicts, and nothing is merged: cell {a.cells()[0]}: their columns 'nll' differ in .*a and .*b"
    ):
        merge([a.path, b.path], a.path.parent / "c")
    assert not (a.path.parent / "c").exists()
    before = {path: path.read_bytes() for path in files_below(a.path)}
    with pytest.raises(StoreError, match="1 conflicts"):
        merge([b.path], a.path)
    assert {path: path.read_bytes() for path in files_below(a.path)} == before


def test_rows_that_only_one_of_them_has_are_no_conflict_and_columns_neither(make_store: Make, answered: Columns) -> None:
    fog = answered(RIGHT)
    a = make_store({("m", "fog", "1"): first(fog, 5)}, name="a")
    b = make_store({("m", "fog", "1"): {**fog, "value_x": np.arange(12.0)}}, name="b", started="2026-01-02T00:00:00+00:00")
    c = make_store({}, name="c", started="2026-01-03T00:00:00+00:00")
    assert merge([a.path, b.path], c.path).cells == 1
    (cell,) = c.cells()
    assert read(c.files(cell), ["sample", "nll"]).equals(table({"sample": fog["sample"], "nll": fog["nll"]}).to_pandas())


def test_other_images_of_the_same_data_are_a_conflict(make_store: Make, answered: Columns) -> None:
    stores = [make_store({(name, "fog", "1"): answered(RIGHT)}, name=name) for name in ("a", "b")]
    for value, store in enumerate(stores):
        SampleDigests(store.path, "f", "").keep(0, 0, ["s00000", "s00001"], np.full((2, 16), value, np.uint8))
    with pytest.raises(StoreError, match=r"data f: 2 samples \(s00000, s00001\) are other images"):
        merge([store.path for store in stores], stores[0].path.parent / "c")


def test_a_store_that_is_not_whole_is_not_merged(make_store: Make, answered: Columns) -> None:
    a, b = (make_store({(name, "fog", "1"): answered(RIGHT)}, name=name) for name in ("a", "b"))
    (file,) = b.files(b.cells()[0])
    file.path.write_bytes(file.path.read_bytes()[:-1])
    with pytest.raises(StoreDamaged, match=rf"the store {b.path} is not whole \(1 fault\): damaged: cells/{b.cells()[0]}"):
        merge([a.path, b.path], a.path.parent / "c")
    assert not (a.path.parent / "c").exists()


def test_foreign_files_stay_where_they_are(make_store: Make, answered: Columns) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")
    (a.path / "cells" / a.cells()[0] / "mine.txt").write_text("mine")
    merge([a.path], a.path.parent / "c")
    assert not list((a.path.parent / "c").rglob("mine.txt"))


def test_a_store_named_twice_is_refused(make_store: Make, answered: Columns) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")
    with pytest.raises(UsageError, match="named twice"):
        merge([a.path, a.path / "."], a.path.parent / "c")


def test_a_store_may_be_merged_into_itself_and_others_into_one_of_them(make_store: Make, answered: Columns) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")
    b = make_store({("n", "fog", "1"): answered(RIGHT)}, name="b")
    assert merge([a.path, b.path], a.path).cells == 1
    assert len(a.cells()) == 2


@pytest.mark.parametrize("place", ["sub", "cells/sub", "../link/sub"])
def test_no_store_is_made_inside_another(make_store: Make, answered: Columns, place: str) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")
    (a.path.parent / "link").symlink_to(a.path)
    before = set(a.path.rglob("*"))
    with pytest.raises(UsageError, match=r"^--into: .*sub is inside the store .*a, which only runs write"):
        merge([a.path], a.path / place)
    assert set(a.path.rglob("*")) == before
    merge([a.path], a.path / ".." / "c")


def test_a_store_that_cannot_be_made_leaves_no_folder(make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreFull):
        merge([a.path], a.path.parent / "c")
    assert not (a.path.parent / "c").exists()


def test_counts_are_of_what_came(make_store: Make, answered: Columns) -> None:
    a, b = (make_store({("m", "fog", "1"): answered(RIGHT), ("m", "fog", "2"): None}, name=name) for name in ("a", "b"))
    compact(b)
    (a.path / "cells" / "abc").mkdir()
    (a.path / "cells" / "abc" / "note").write_text("mine")
    into = a.path.parent / "c"
    done = merge([a.path, b.path], into)
    made = [one.relative_to(into).as_posix() for one in files_below(into)]
    assert (done.cells, done.files) == (2, len(made) - 1)  # store.json is made
    assert not [name for name in made if name.startswith(("ids", "cells/abc")) or "/rows-" in name]
    # rows, lists and their table of samples did not come; what else b has was there
    assert (done.unneeded, done.present) == (3, len(list(files_below(b.path))) - 4)
    assert '"schema": 2' in (into / "store.json").read_text()
    again = merge([a.path, b.path], into)
    assert (again.cells, again.files, again.unneeded) == (0, 0, 3)


def test_a_target_that_is_something_else_is_refused_by_its_option(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    a = make_store({("m", "fog", "1"): answered(RIGHT)}, name="a")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file exists and is not a store of robustvit; give an empty or a new place with --into\.$"):
        merge([a.path], tmp_path / "file")
    with pytest.raises(StoreError, match=r"there is no store at .*file/sub, and none can be made: .*file is no folder\.$"):
        merge([a.path], tmp_path / "file" / "sub")
