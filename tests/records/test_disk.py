"""Outputs appear whole or are written to, and no write leaves a store through a link."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from robustvit.errors import StoreDamaged, StoreError, StoreFull
from robustvit.records.disk import read_json, replace_file, sweep, write_json, write_output
from robustvit.records.manifest import Manifest, SuiteFacts
from robustvit.records.records import table
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store

CELL = "0" * 20
ROWS = table({"sample": ["a"], "label": [1], "pred": [1]})
GALLERY = pa.table({"sample": ["a"], "label": [1], "pred": [2], "image": [b"image"]})
WRITES: dict[str, Callable[[Store], object]] = {
    "cells": lambda store: store.write(CELL, 0, 0, ROWS, {}),
    f"cells/{CELL}": lambda store: store.write(CELL, 0, 0, ROWS, {}),
    f"cells/{CELL}/cell.json": lambda store: store.declare(CELL, {"a": 1}),
    f"cells/{CELL}/failure.json": lambda store: store.fail(CELL, "why"),
    f"cells/{CELL}/": lambda store: store.write_gallery(CELL, GALLERY),
    f"cells//{CELL}": lambda store: store.keep_images(CELL, 0, 0, {"rows": np.zeros(1)}, 1, {"cell": CELL, "earlier": ""}),
    f"cells///{CELL}": lambda store: store.succeed(CELL),
    "learned": lambda store: store.keep_artifact("a", {"x": np.zeros(1)}),
    "runs": lambda store: store.write_manifest(
        Manifest(id="a", suite=SuiteFacts(name="s", version=1), models={}, data={}, cells=[], command="")
    ),
    "environments": lambda store: store.write_environment({"torch": "2"}),
    "leases": lambda store: store.lease(CELL, 0).__enter__(),
    f"leases/{CELL}-000000.lock": lambda store: store.lease(CELL, 0).__enter__(),
}  # fmt: skip


@pytest.mark.parametrize("place", WRITES)
@pytest.mark.parametrize("inside", [True, False])
def test_nothing_is_written_through_a_link_in_a_store(tmp_path: Path, place: str, inside: bool) -> None:
    store = Store(tmp_path / "store", create=True)
    link = store.path / place.replace("//", "/")
    target = (store.path if inside else tmp_path) / "elsewhere"
    file = link.suffix != ""
    target.write_text("theirs") if file else target.mkdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    with pytest.raises(StoreError, match=f"{link} is a link to {target}"):
        WRITES[place](store)
    assert target.read_text() == "theirs" if file else not list(target.iterdir())


def test_damaged_files_behind_a_link_stay_as_they_are(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store", create=True), Store(tmp_path / "other", create=True)
    other.write(CELL, 0, 0, ROWS, {})
    (file,) = other.files(CELL)
    file.path.write_bytes(b"?")
    (store.path / "cells").symlink_to(other.path / "cells")
    with pytest.raises(StoreError, match="is a link"):
        store.set_aside(CELL)
    assert file.path.exists()


def test_a_store_may_itself_be_a_link_and_its_files_may_be_read_through_links(tmp_path: Path) -> None:
    real = Store(tmp_path / "real", create=True)
    (tmp_path / "link").symlink_to(real.path)
    Store(tmp_path / "link", create=True).write(CELL, 0, 0, ROWS, {})
    assert len(real.files(CELL)) == 1
    shared = Store(tmp_path / "shared", create=True)
    (shared.path / "cells").symlink_to(real.path / "cells")
    assert shared.files(CELL)[0].read().num_rows == 1


def test_an_output_appears_whole_or_the_earlier_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "board.csv"
    write_output(path, b"first")
    monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_output(path, b"second")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("board.csv", b"first")]


def test_an_output_follows_a_link_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_output(tmp_path / "link.csv", b"rows")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == b"rows"


def test_a_device_and_a_pipe_are_written_to(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"rows" * 100_000)
    reader.join(60)
    assert heard == [b"rows" * 100_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_output(Path("/dev/null"), b"rows")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_the_standard_output_is_written_to_even_where_it_is_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as file:
        inode = os.fstat(file.fileno()).st_ino
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"rows")
        assert (os.stat(tmp_path / "out").st_ino, file.read()) == (inode, "rows")


def test_json_knows_whether_it_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 0.1, "ä", None], "c": {"d": True}})
    assert read_json(path) == {"b": [1, 0.1, "ä", None], "c": {"d": True}}
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(StoreDamaged, match="checksum differs"):
        read_json(path)
    path.write_text('{"b": 1}')  # of an earlier version
    assert read_json(path) == {"b": 1}


DRAFT = "0" * 32


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (f".board.csv.{DRAFT}", f".other.csv.{DRAFT}", f".board.csv.{DRAFT[1:]}", "board.csv", f"board.csv.{DRAFT}"):
        (tmp_path / name).write_text("half")
    sweep(tmp_path, of="board.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f".other.csv.{DRAFT}", f".board.csv.{DRAFT[1:]}", "board.csv", f"board.csv.{DRAFT}"]
    )
    sweep(tmp_path)
    assert not (tmp_path / f".other.csv.{DRAFT}").exists()
    sweep(tmp_path / "nowhere")


def test_a_draft_that_is_being_written_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, present = os.fsync, []

    def swept(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        sweep(tmp_path)
        present.extend(path.name for path in tmp_path.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", swept)
    replace_file(tmp_path / "a", b"content", sync=True)
    assert len(present) == 1
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_finished_draft_that_is_swept_before_it_has_its_name_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def swept(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        sweep(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", swept)
    replace_file(tmp_path / "a", b"content")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"content")]


def test_a_store_is_swept_of_drafts_and_of_locks_that_nobody_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    places = ["", "runs", "environments", "learned", "samples/f", "leases", f"cells/{CELL}"]
    for place in places:
        (store.path / place).mkdir(parents=True, exist_ok=True)
        (store.path / place / f".a.{DRAFT}").write_text("half")
    (store.path / "leases" / "a.lock").touch()
    with store.lease(CELL, 0):
        sweep_store(store.path)
        sweep_cell(store.path, CELL)
        left = [path.name for path in store.path.rglob("*") if path.is_file()]
    assert sorted(left) == [f"{CELL}-000000.lock", "store.json"]


def test_an_output_sweeps_its_own_drafts(tmp_path: Path) -> None:
    for name in ("board.csv", "mine.csv"):
        (tmp_path / f".{name}.{DRAFT}").write_text("half")
    write_output(tmp_path / "board.csv", b"rows")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".mine.csv.{DRAFT}", "board.csv"]


def test_nothing_is_swept_through_a_link_in_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    (tmp_path / "theirs" / CELL).mkdir(parents=True)
    draft = tmp_path / "theirs" / CELL / f".a.{DRAFT}"
    draft.write_text("half")
    (store.path / "cells").symlink_to(tmp_path / "theirs")
    sweep_cell(store.path, CELL)
    assert draft.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.lease(CELL, 0).__enter__(),
        lambda store: store.succeed(CELL),
        lambda store: store.set_aside(CELL),
        lambda store: store.write_environment({"torch": "2"}),
    ],
    ids=["lease", "succeed", "set aside", "environment"],
)
def test_a_store_that_may_not_be_changed_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Store], object]
) -> None:
    store = Store(tmp_path / "store", create=True)
    store.fail(CELL, "why")
    store.write(CELL, 0, 0, ROWS, {})
    store.files(CELL)[0].path.write_bytes(b"?")

    def refused(*given: object, **named: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("open", "unlink", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refused)
    with pytest.raises(StoreFull, match=r"cannot write .*store/.*Read-only file system"):
        change(store)


def test_a_lease_whose_file_cannot_be_removed_is_given_back_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store", create=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *given, **named: (_ for _ in ()).throw(PermissionError("denied")))
        with store.lease(CELL, 0) as mine:
            assert mine
    with store.lease(CELL, 0) as mine:
        assert mine


@pytest.mark.parametrize("there", ["", "a"])
def test_folders_of_a_file_that_cannot_be_written_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    (tmp_path / there).mkdir(exist_ok=True)
    monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace_file(tmp_path / "a" / "b" / "file", b"1")
    assert [path.name for path in tmp_path.rglob("*")] == [there] * bool(there)
