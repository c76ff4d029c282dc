"""Whether a store is what was written: each kind of file damaged, each kind of remainder, and rows that are not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustvit.errors import StoreDamaged
from robustvit.records.compacted.compaction import compact
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store
from robustvit.records.upkeep.file_kinds import _PATTERNS, files_below, kind_of
from robustvit.records.upkeep.merging import merge
from robustvit.records.upkeep.verification import Fault, verify

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def every_kind(make_store: Make, answered: Columns) -> Store:
    """A store with files of every kind, one of its two cells compacted."""
    store = make_store({("m", "fog", str(n)): answered([True, False] * 9) for n in (1, 2)})
    compact(store, models=["m"])
    one, other = store.cells()
    rows = store.files(one)[0].read()
    (compacted,) = {file.path for file in store.files(one)}
    for path in (compacted, *compacted.parent.glob("lists-*")):
        path.unlink()
    kept = {"rows": np.zeros(1, np.int32), "adversarial": np.zeros((1, 3, 2, 2), np.float32), "clean": np.zeros((1, 2, 2, 3), np.uint8)}
    checksum = store.keep_images(one, 0, 0, kept, 18, {"cell": one, "earlier": ""})
    store.write(one, 0, 0, rows, {"images": checksum, "seconds": 1.5})
    store.write_gallery(other, pa.table({"sample": ["a"], "label": [1], "pred": [2], "image": [b"image"]}))
    store.fail(other, "once")
    store.keep_artifact("a" * 20, {"x": np.zeros(1)})
    store.write_environment({"torch": "2"})
    SampleDigests(store.path, "f", "").keep(0, 0, ["s00000"], np.zeros((1, 16), np.uint8))
    return store


def test_a_whole_store_has_no_fault(make_store: Make, answered: Columns) -> None:
    store = every_kind(make_store, answered)
    found = verify(store)
    assert (found.cells, found.faults) == (2, [])
    assert found.files == len(list(files_below(store.path)))
    held = {kind_of(store.path, path) for path in files_below(store.path)}
    assert set(_PATTERNS) - held == {"verified", "report", "lock", "removal", "set aside", "worker"}


def test_each_damaged_file_is_named_once(make_store: Make, answered: Columns) -> None:
    store = every_kind(make_store, answered)
    for path in [path for path in files_below(store.path) if path.name not in ("store.json",)]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        faults = verify(Store(store.path)).faults
        place = path.relative_to(store.path).as_posix()
        named = {one.place for one in faults if one.kind == "damaged"}
        assert place in named or any(path.name in one.what for one in faults), (place, faults)
        assert all("\n" not in one.what for one in faults)
        path.write_bytes(content)
    assert verify(Store(store.path)).faults == []


def test_large_files_are_hashed_whatever_was_verified_before(make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustvit.records.records_file.LARGE", 0)
    store = every_kind(make_store, answered)
    for cell in store.cells():
        assert store.damaged(cell) == []
    for path in store.path.rglob("rows-*"):
        about, content = path.stat(), path.read_bytes()
        assert content.count(b'"seconds":1.5') == 1  # beside the rows, where pages have no checksums
        path.write_bytes(content.replace(b'"seconds":1.5', b'"seconds":2.5'))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert [one.place for one in verify(store).faults] == [path.relative_to(store.path).as_posix()]


def test_foreign_files_are_named_and_what_was_set_aside_is_not(make_store: Make, answered: Columns) -> None:
    store = every_kind(make_store, answered)
    (store.path / "notes.txt").write_text("mine")
    (store.path / "cells" / "mine").mkdir()
    (store.path / "cells" / "mine" / "rows.parquet").write_text("mine")
    os.mkfifo(store.path / "runs" / "pipe.json")
    (store.path / "learned" / "x.damaged").write_text("old")
    faults = verify(store).faults
    assert {(one.place, one.kind) for one in faults} == {
        ("notes.txt", "foreign"), ("cells/mine/rows.parquet", "foreign"), ("runs/pipe.json", "damaged"),
    }  # fmt: skip


def test_a_finished_run_without_all_its_rows_is_a_fault_and_one_that_goes_on_is_none(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered([True] * 5), ("m", "fog", "2"): None}, asked=9)
    assert verify(store).faults == []
    (manifest,) = store.manifests()
    store.write_manifest(replace(manifest, finished="2026-01-02T00:00:00+00:00"))
    one, other = (cell.cell for cell in manifest.cells)
    assert verify(store).faults == [
        Fault(f"cells/{one}", "incomplete", "5 of 9 rows of fog 1 of m, though its run has finished"),
        Fault(f"cells/{other}", "incomplete", "0 of 9 rows of fog 2 of m, though its run has finished"),
    ]
    store.fail(other, "it raised")
    assert [one.place for one in verify(store).faults] == [f"cells/{one}"]


@pytest.mark.parametrize("harm", ["gone", "flipped"])
def test_a_lost_table_of_samples_is_one_fault_with_the_files_that_need_it(make_store: Make, answered: Columns, harm: str) -> None:
    store = make_store({("m", "fog", str(n)): answered([True]) for n in range(1, 8)})
    compact(store)
    (table,) = (store.path / "ids").iterdir()
    if harm == "gone":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:-1] + b"?")
    needed = tuple(f"cells/{cell}/{store.files(cell)[0].path.name}" for cell in store.cells())
    (fault,) = verify(Store(store.path)).faults
    assert (fault.place, fault.kind, fault.files) == (f"ids/{table.name}", "damaged", needed)
    assert fault.what.count("7 compacted files need it: " + ", ".join(needed[:5]) + " and 2 more. Restore it") == 1
    with pytest.raises(
        StoreDamaged, match=rf"\(1 fault\): damaged: ids/{table.name} [^.]*\. *[^.]*.*run their suites again\. Then merge\.$"
    ):
        merge([store.path], store.path.parent / "c")


def test_the_files_that_need_a_lost_table_are_read_all_the_same(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", str(n)): answered([True]) for n in (1, 2)})
    compact(store)
    shutil.rmtree(store.path / "ids")
    path = store.files(store.cells()[0])[0].path
    whole, group = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(0)
    (margin,) = [one for one in map(group.column, range(group.num_columns)) if one.path_in_schema == "margin"]
    for place in (len(whole) - 1, margin.data_page_offset + margin.total_compressed_size - 3):  # of the footer, and of rows
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        assert [(one.place.split("/")[0], len(one.files)) for one in verify(Store(store.path)).faults] == [("cells", 0), ("ids", 1)]


def test_a_damaged_table_that_no_cell_needs_is_a_fault(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered([True])})
    (store.path / "ids").mkdir()
    (store.path / "ids" / f"{'0' * 20}.parquet").write_text("1")
    (fault,) = verify(Store(store.path)).faults
    assert fault.what.endswith("no cell needs it: delete it.")


def test_without_the_files_of_a_lost_table_a_store_is_computed_again(make_store: Make, answered: Columns) -> None:
    """What the message says: nothing of the cells is damaged any more, and their rows are asked for anew."""
    store = make_store({("m", "fog", "1"): answered([True])})
    compact(store)
    shutil.rmtree(store.path / "ids")
    cell, opened = store.cells()[0], Store(store.path)
    with pytest.raises(StoreDamaged, match="delete the compacted files that name it"):
        opened.damaged(cell)
    for one in verify(opened).faults[0].files:
        (store.path / one).unlink()
    assert (opened.damaged(cell), opened.reached(cell, 0)) == ([], 0)
    make_store({("m", "fog", "1"): answered([True])})
    assert verify(Store(store.path)).faults == []


def test_a_link_to_nothing_is_a_fault(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    store = make_store({("m", "fog", "1"): answered([True])})
    (store.path / "environments").mkdir()
    (store.path / "environments" / f"{'a' * 20}.json").symlink_to(tmp_path / "nowhere")
    assert [one.kind for one in verify(store).faults] == ["damaged"]
