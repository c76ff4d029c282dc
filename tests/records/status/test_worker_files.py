"""Files of workers: what is believed, when they expire, and that nothing of them fails a run or is taken for Records."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustvit.errors import StoreError
from robustvit.records.compacted.compaction import compact
from robustvit.records.disk import write_output
from robustvit.records.listing import list_store
from robustvit.records.status import worker_files
from robustvit.records.status.worker_files import EXPIRY, remove_worker, running_workers, store_time, sweep_workers, write_worker
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_store
from robustvit.records.upkeep.garbage import collect
from robustvit.records.upkeep.merging import merge
from robustvit.records.upkeep.sizes import store_size
from robustvit.records.upkeep.verification import verify

NAME = "0123456789abcdef" * 2
FACTS = {"host": "höst-日本", "process": 7, "device": "cuda:0", "computes": "a · fog 3", "rows": 12, "seconds": 60.0}
NOW = 1_900_000_000.0


def dated(root: Path, seconds: float, name: str = NAME) -> Path:
    path = root / "workers" / f"{name}.json"
    os.utime(path, (seconds, seconds))
    return path


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., Any]) -> Store:
    return make_store({("a", "clean", ""): answered([True] * 6)})


def test_what_was_written_is_read_with_times_of_the_store(tmp_path: Path) -> None:
    write_worker(tmp_path, NAME, FACTS)
    dated(tmp_path, NOW)
    (one,) = running_workers(tmp_path, NOW + 5)
    assert one == ("höst-日本", 7, "cuda:0", "a · fog 3", 12, NOW - 60, NOW)
    remove_worker(tmp_path, NAME)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("jump", [-1, 1])
def test_a_file_expires_two_minutes_from_now_in_either_direction(tmp_path: Path, jump: int) -> None:
    write_worker(tmp_path, NAME, FACTS)
    dated(tmp_path, NOW + jump * EXPIRY)
    assert len(running_workers(tmp_path, NOW)) == 1
    dated(tmp_path, NOW + jump * (EXPIRY + 0.5))
    assert not running_workers(tmp_path, NOW)


@pytest.mark.parametrize("off", [-1e6, 1e6])
def test_the_clock_is_that_of_the_store_whatever_this_machine_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    true = time.time()
    write_worker(tmp_path, NAME, FACTS)
    monkeypatch.setattr(time, "time", lambda: true + off)
    now = store_time(tmp_path)
    assert abs(now - true) < 30
    assert len(running_workers(tmp_path, now)) == 1
    sweep_workers(tmp_path)
    assert len(running_workers(tmp_path, now)) == 1


def test_the_clock_leaves_nothing_in_the_store(store: Store) -> None:
    before = sorted(store.path.rglob("*"))
    assert store_time(store.path) > 0
    assert sorted(store.path.rglob("*")) == before


def test_where_no_file_can_be_made_the_clock_is_this_machines_and_not_before_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**about: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert store_time(tmp_path) == NOW
    write_worker(tmp_path, NAME, FACTS)
    dated(tmp_path, NOW + 1000)
    assert store_time(tmp_path) == NOW + 1000


GARBAGE: dict[str, bytes] = {
    "no JSON": b"{", "a list": b"[]", "nothing": b"", "half": b'{"host": "a"}', "deep": b"[" * 50_000,
    "text for a number": json.dumps({**FACTS, "rows": "many"}).encode(), "rows below nothing": json.dumps({**FACTS, "rows": -1}).encode(),
    "endless": json.dumps({**FACTS, "seconds": float("inf")}).encode(),
    "no number": json.dumps({**FACTS, "seconds": float("nan")}).encode(),
    "large": json.dumps({**FACTS, "computes": "x" * 70_000}).encode(), "a huge process": json.dumps({**FACTS, "process": 1e300}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_no_worker_wrote_is_nobody(tmp_path: Path, content: bytes) -> None:
    write_worker(tmp_path, NAME, FACTS)
    (tmp_path / "workers" / f"{NAME}.json").write_bytes(content)
    assert not running_workers(tmp_path, store_time(tmp_path))


def test_only_files_with_the_names_of_workers_are_read(tmp_path: Path) -> None:
    write_worker(tmp_path, NAME, FACTS)
    folder = tmp_path / "workers"
    (folder / "other.json").write_text(json.dumps(FACTS))
    (folder / f"{'a' * 32}.json").mkdir()
    (folder / f"{'b' * 32}.json").symlink_to(folder / f"{NAME}.json")
    os.mkfifo(folder / f"{'c' * 32}.json")
    assert len(running_workers(tmp_path, store_time(tmp_path))) == 1


def test_long_texts_of_others_are_cut(tmp_path: Path) -> None:
    write_worker(tmp_path, NAME, {**FACTS, "host": "x" * 9000})
    assert len(running_workers(tmp_path, store_time(tmp_path))[0].host) == 500


def test_a_sweep_removes_what_expired_and_unfinished_files_and_the_empty_folder(store: Store) -> None:
    root = store.path
    write_worker(root, NAME, FACTS)
    write_worker(root, "a" * 32, FACTS)
    write_worker(root, "b" * 32, FACTS)
    now = store_time(root)
    dated(root, now - EXPIRY - 5)
    dated(root, now + EXPIRY + 5, "a" * 32)
    (root / "workers" / f".x.json.{'0' * 32}").write_bytes(b"half")
    sweep_store(root)
    assert [path.name for path in (root / "workers").iterdir()] == [f"{'b' * 32}.json"]
    dated(root, now - 1e6, "b" * 32)
    sweep_store(root)
    assert not (root / "workers").exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_no_fault_of_a_disk_fails_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(error, "no")

    monkeypatch.setattr(worker_files, "replace_file", fail)
    write_worker(tmp_path, NAME, FACTS)
    monkeypatch.setattr(Path, "unlink", fail)
    remove_worker(tmp_path, NAME)
    sweep_workers(tmp_path)


def test_nothing_is_written_through_a_link_or_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "workers").symlink_to(tmp_path / "elsewhere")
    for what in (write_worker, lambda *given: remove_worker(*given[:2]), lambda *given: sweep_workers(given[0])):
        what(tmp_path / "s", NAME, FACTS)
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "s" / "workers").unlink()
    (tmp_path / "s" / "workers").write_text("mine")
    write_worker(tmp_path / "s", NAME, FACTS)
    sweep_workers(tmp_path / "s")
    assert (tmp_path / "s" / "workers").read_text() == "mine"
    assert not running_workers(tmp_path / "s", NOW)


def test_the_file_is_no_part_of_the_records(store: Store, tmp_path: Path) -> None:
    listing, size, whole = list_store(store.path), store_size(store), verify(store)
    write_worker(store.path, NAME, FACTS)
    (store.path / "workers" / f"{'d' * 32}.json").write_bytes(b"not whole")
    assert list_store(store.path) == listing
    assert store_size(store) == size
    assert verify(store) == whole
    assert not collect(store)
    assert compact(store)
    merge([store.path], tmp_path / "merged")
    assert (store.path / "workers" / f"{NAME}.json").is_file()
    assert not (tmp_path / "merged" / "workers").exists()
    with pytest.raises(StoreError, match="among the files of the store"):
        write_output(store.path / "workers" / "mine.json", b"x")
