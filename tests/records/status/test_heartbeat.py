"""The file of a process that computes: from its first task to its end, renewed now and then."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from robustvit.records.status import heartbeat
from robustvit.records.status.heartbeat import Heartbeat
from robustvit.records.status.worker_files import running_workers, store_time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is written from now on, in place of files."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(heartbeat, "write_worker", lambda root, name, facts: found.append(facts))
    return found


def test_the_file_is_there_from_the_first_task_to_the_end_of_the_block(tmp_path: Path) -> None:
    beat = Heartbeat(tmp_path, "cpu")
    beat.computes("before")
    with beat:
        assert not list(tmp_path.iterdir())
        beat.computes("a · fog 3")
        (one,) = running_workers(tmp_path, store_time(tmp_path))
        assert (one.host, one.process, one.device) == (socket.gethostname(), os.getpid(), "cpu")
        assert (one.computes, one.rows) == ("a · fog 3", 0)
    assert not list(tmp_path.iterdir())
    beat.computes("after")
    assert not list(tmp_path.iterdir())
    assert "robustvit-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_an_error_ends_it_as_well(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Heartbeat(tmp_path, "cpu") as beat:
            beat.computes("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_tasks_renew_it_every_five_seconds_at_most(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    clock = Clock()
    with Heartbeat(tmp_path, "cpu", clock=clock) as beat:
        for _ in range(13):
            beat.computes(f"at {clock.now}")
            clock.now += 1.0
    assert [(one["computes"], one["seconds"]) for one in written] == [("at 100.0", 0.0), ("at 105.0", 5.0), ("at 110.0", 10.0)]


def test_a_long_task_is_renewed_by_a_thread(tmp_path: Path, written: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_RENEWED", 0.02)
    monkeypatch.setattr(heartbeat, "_RESTED", 0.01)
    with Heartbeat(tmp_path, "cpu") as beat:
        beat.computes("long")
        beat.rows = 3
        last = time.monotonic() + 30
        while len(written) < 4:
            assert time.monotonic() < last
            time.sleep(0.01)
    assert {one["computes"] for one in written} == {"long"}
    assert written[-1]["rows"] == 3
    many = len(written)
    time.sleep(0.05)
    assert len(written) == many


def test_a_task_that_begins_soon_after_another_is_told_once_the_rest_is_over(
    tmp_path: Path, written: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_RESTED", 0.05)
    with Heartbeat(tmp_path, "cpu") as beat:
        beat.computes("first")
        beat.computes("second")
        last = time.monotonic() + heartbeat._RENEWED / 2
        while len(written) < 2:
            assert time.monotonic() < last
            time.sleep(0.01)
        time.sleep(0.2)
    assert [one["computes"] for one in written] == ["first", "second"]


def test_the_thread_renews_several_times_before_a_file_expires() -> None:
    assert heartbeat._RENEWED * 5 < 120
    with Heartbeat(Path("nowhere"), "cpu"):
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "robustvit-heartbeat")


def test_what_is_announced_and_spent_is_noted_and_handed_on(tmp_path: Path) -> None:
    heard: list[Any] = []
    with Heartbeat(tmp_path, "cpu") as beat:
        beat.telling(heard.append)("a")
        beat.counting(lambda *what: heard.append(what))("task", "model", 5, 0.25)
        beat.counting(lambda *what: heard.append(what))("task", "model", 7, 0.5)
        (path,) = (tmp_path / "workers").iterdir()
        assert json.loads(path.read_text())["computes"] == "a"
    assert heard == ["a", ("task", "model", 5, 0.25), ("task", "model", 7, 0.5)]
    assert beat.rows == 12


def test_a_place_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("mine")
    with Heartbeat(tmp_path, "cpu") as beat:
        beat.computes("a")
    assert (tmp_path / "workers").read_text() == "mine"
