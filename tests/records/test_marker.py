"""A folder becomes a store whatever processes do at the same time, and wherever one is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from robustvit.errors import RobustvitError, StoreDamaged, StoreError, StoreTooNew
from robustvit.records import disk
from robustvit.records.marker import is_there_yet
from robustvit.records.store import Store

FORK = multiprocessing.get_context("fork")


def opened(path: Path, barrier: object, failures: object) -> None:
    """Opens a new store as a run does, at the same moment as others."""
    barrier.wait()  # type: ignore[attr-defined]
    try:
        Store(path, create=True).write_environment({"process": os.getpid()})
    except (RobustvitError, OSError) as error:
        failures.put(repr(error))  # type: ignore[attr-defined]


def test_many_processes_that_start_on_a_new_store_together_all_open_it(tmp_path: Path) -> None:
    failures = FORK.SimpleQueue()
    for trial in range(12):
        barrier = FORK.Barrier(6)
        workers = [FORK.Process(target=opened, args=(tmp_path / str(trial), barrier, failures)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * 6
    assert failures.empty(), failures.get()
    assert all(sorted(path.name for path in place.iterdir()) == ["environments", "store.json"] for place in tmp_path.iterdir())


def killed(path: Path, moment: str) -> None:
    """Dies while it makes a store, at the call of a function of `os`."""
    setattr(os, moment, lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL))
    Store(path, create=True)


@pytest.mark.parametrize("moment", ["fsync", "replace", "open"])
def test_a_process_that_dies_while_it_makes_a_store_leaves_no_obstacle(tmp_path: Path, moment: str) -> None:
    """Between the draft and its name, or before it is on disk."""
    worker = FORK.Process(target=killed, args=(tmp_path / "s", moment))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert (tmp_path / "s" / "store.json").exists() == (moment == "open")  # the folder is synced last
    Store(tmp_path / "s", create=True)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["store.json"]


def test_a_process_whose_draft_another_swept_goes_on_with_the_others_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def swept(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        Store(tmp_path, create=True)
        replace(source, target)

    monkeypatch.setattr(os, "replace", swept)
    Store(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


@pytest.mark.parametrize("name", [".hidden", ".store.json.mine", "store.json.0123456789abcdef0123456789abcdef", ".store.json"])
def test_what_is_no_draft_of_a_marker_makes_a_folder_somebodys(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match="is not a store"):
        Store(tmp_path, create=True)
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_and_a_link_to_nowhere_are_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(StoreError, match="is not a store"):
            Store(tmp_path / name, create=True)


def test_a_draft_is_known_by_its_whole_name() -> None:
    assert disk.is_draft(Path(f".store.json.{'0' * 32}"), Path("store.json"))
    assert not disk.is_draft(Path(f".other.json.{'0' * 32}"), Path("store.json"))


def test_a_store_whose_marker_was_lost_gets_another_and_a_folder_of_something_else_does_not(tmp_path: Path) -> None:
    for name in ("cells", "runs"):
        (tmp_path / "lost" / name).mkdir(parents=True)
    (tmp_path / "other" / "cells").mkdir(parents=True)
    assert Store(tmp_path / "lost", create=True).cells() == []
    assert (tmp_path / "lost" / "store.json").is_file()
    with pytest.raises(StoreError, match="is not a store"):
        Store(tmp_path / "other", create=True)


DAMAGED = ["", '{"schema": ', "\0" * 13, '{"schfma": 2}', '{"schema": true}', '["schema", 2]']


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A store with a damaged marker."""
    for name in ("cells", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "store.json").write_text("")
    return tmp_path


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_marker_is_written_anew_by_a_run_and_said_to_be(broken: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (broken / "store.json").write_text(content)
    with pytest.raises(StoreDamaged, match=rf"Nothing else is lost: `robustvit run … --store {broken}` writes it anew"):
        Store(broken)
    assert (broken / "store.json").read_text() == content
    Store(broken, create=True)
    assert "store.json was damaged and has been written anew" in caplog.text
    assert Store(broken).cells() == []


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_marker_beside_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.json").write_text(content)
    for create in (False, True):
        with pytest.raises(StoreDamaged, match="holds no cells and runs of a store"):
            Store(tmp_path, create=create)
    assert (tmp_path / "store.json").read_text() == content


def test_a_damaged_marker_that_still_shows_a_newer_schema_is_not_made_older(broken: Path) -> None:
    (broken / "store.json").write_text('{"schema": 99')
    with pytest.raises(StoreTooNew):
        Store(broken, create=True)


def test_a_damaged_marker_that_is_a_link_is_not_written_through(broken: Path) -> None:
    (broken / "store.json").rename(broken / "elsewhere")
    (broken / "store.json").symlink_to(broken / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        Store(broken, create=True)


def test_a_marker_that_may_not_be_read_is_not_replaced(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *given: object, **named: object) -> str:
        raise PermissionError(13, "Permission denied")

    (broken / "store.json").write_text('{"schema": 2}')
    with monkeypatch.context() as patch:
        for name in ("read_text", "open"):
            patch.setattr(Path, name, refuse)
        with pytest.raises(StoreDamaged, match="Permission denied"):
            Store(broken, create=True)
    assert (broken / "store.json").read_text() == '{"schema": 2}'


def test_a_place_where_a_store_can_be_made_has_none_yet(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / f".store.json.{'0' * 32}").write_text("{")
    Store(tmp_path / "made", create=True)
    found = {name: is_there_yet(tmp_path / name) for name in ("empty", "begun", "absent", "absent/below", "made")}
    assert found == {"empty": False, "begun": False, "absent": False, "absent/below": False, "made": True}


@pytest.mark.parametrize("place", ["file", "folder", "file/below", "pipe"])
def test_a_place_of_something_else_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no folder" if "below" in place else "is not a store of robustvit"):
        is_there_yet(tmp_path / place)
