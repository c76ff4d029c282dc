"""status: a line for logs, a block on a terminal, JSON for programs; beside runs that go on, fail and are killed."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import robustvit as rv
from robustvit.cli import watching
from robustvit.cli.commands.status_text import status_data, status_line
from robustvit.records.status.worker_files import EXPIRY, write_worker
from robustvit.records.store import Store

FACTS = {"host": "höst-日本", "process": 7, "device": "cuda:0", "computes": "a · fog 3", "rows": 12, "seconds": 60.0}
SUITE = """
name: slow
title: One cell after the other
data: digits
metrics: [top1]
scenarios: [clean, {"slow:slow": {severity: [1, 2, 3]}}]
"""
PLUGIN = """
import pathlib, time
import robustvit as rv

@rv.corruption(severity="severity", family="noise")
def slow(images, draws, *, severity: rv.Severity):
    \"\"\"Darkens, once a file is there.\"\"\"
    while not pathlib.Path("go").exists():
        time.sleep(0.2)
    return images / (1 + severity)
"""
Make, Answered = Callable[..., Store], Callable[..., Any]


@pytest.fixture
def store(make_store: Make, answered: Answered) -> Store:
    """Half of a run of two models; its last row came long ago."""
    cells = {("a", "clean", ""): answered([True] * 6), ("b", "fog", "1"): answered([True] * 3)}
    made = make_store(cells, asked=6)
    for path in (made.path / "cells").glob("*/*.parquet"):
        os.utime(path, (1e9, 1e9))
    return made


def test_a_run_in_one_line(robustvit, store: Store) -> None:  # type: ignore[no-untyped-def]
    for words in (("--store", store.path), (store.path,), (store.path, "--store", "other"), (store.path, "--once")):
        done = robustvit("status", *words)
        assert (done.code, done.err) == (0, "")
        assert done.out == "made-up, a, b · 1 of 2 cells · 9 of 12 rows · time left unknown · stopped\n"
    write_worker(store.path, "0" * 32, FACTS)
    write_worker(store.path, "1" * 32, {**FACTS, "host": "other"})
    assert robustvit("status", store.path).out.endswith("· 2 workers on 2 hosts · going on\n")
    assert "a · 1 of 1 cells · 6 of 6 rows · 2 workers" in robustvit("status", store.path, "-s", "made-up", "-m", "a").out


def test_failed_cells_have_exit_code_3_and_five_reasons(robustvit, make_store: Make) -> None:  # type: ignore[no-untyped-def]
    store = make_store({("a", "fog", str(place)): None for place in range(1, 8)})
    for cell in store.manifests()[0].cells:
        store.fail(cell.cell, f"no [b]fog[/] {cell.severity}\x1b[31m")
    done = robustvit("status", store.path)
    assert done.code == 3
    assert done.out == "made-up, a · 0 of 7 cells · 0 of 7 rows · 7 failed · failed\n"
    assert done.err.count("failed: fog") == 5
    assert r"failed: fog 1 of a on digits: no [b]fog[/] 1\x1b[31m" in done.err
    assert done.err.endswith("failed: 2 more")


def test_no_store_an_empty_one_and_one_without_a_run_are_a_line_each(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    Store(tmp_path / "new", create=True)
    for name in ("absent", "empty"):
        done = robustvit("status", tmp_path / name)
        assert (done.code, done.out) == (1, "")
        assert f"there is no store at {tmp_path / name}" in done.err
    done = robustvit("status", tmp_path / "new")
    assert (done.code, done.out, done.err) == (0, f"No run has begun in the store {tmp_path / 'new'}.\n", "")


def test_json_has_everything(robustvit, store: Store) -> None:  # type: ignore[no-untyped-def]
    write_worker(store.path, "0" * 32, FACTS)
    store.fail(store.manifests()[0].cells[1].cell, "no")
    for words in (("--json",), ("--format", "json"), ("-f", "json", "--once")):
        done = robustvit("status", store.path, *words)
        found = json.loads(done.out)
        assert done.code == 3
        assert (found["state"], found["cells"], found["complete"], found["failed"], found["over"]) == ("failed", 2, 1, 1, True)
        assert found["failures"] == [{"cell": "fog 1 of b on digits", "reason": "no"}]
        assert (found["workers"][0]["host"], found["rows_per_second"], found["seconds_left"]) == ("höst-日本", None, None)
    assert status_data(rv.status(store))["store"] == str(store.path)


def test_damage_is_told(robustvit, store: Store) -> None:  # type: ignore[no-untyped-def]
    (store.path / "runs" / "x.json").write_text("{")
    assert "x.json" in robustvit("status", store.path).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--watch", "0"), "--watch is 0.0; it takes seconds from 0.1 to 86,400"), (("--watch", "nan"), "--watch is nan"),
        (("--watch", "2", "--once"), "--once and --watch are two ways"), (("--format", "csv"), "--format has no 'csv'"),
        (("--suite", "frist"), "has no suite 'frist'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(robustvit, store: Store, words: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    done = robustvit("status", store.path, *words)
    assert done.code in (1, 2)
    assert message in done.err


def test_a_narrow_terminal_has_every_word(store: Store) -> None:
    write_worker(store.path, "0" * 32, {**FACTS, "host": "h" * 60})
    store.fail(store.manifests()[0].cells[1].cell, "no [b]fog[/] 雾 today")
    page = Console(file=io.StringIO(), width=40, force_terminal=False)
    page.print(watching._block(rv.status(store)))
    told = page.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, told.splitlines())) <= 40
    flat = re.sub(r"\s+", "", told)
    for text in (
        "made-up, a, b: failed",
        "1 of 2 cells · 9 of 12 rows",
        "no [b]fog[/] 雾 today",
        "h" * 60,
        "1 worker for 1 min",
        "a · fog 3 (cuda:0)",
    ):
        assert text.replace(" ", "") in flat


def test_many_hosts_and_tasks_are_counted(store: Store) -> None:
    for place in range(20):
        write_worker(store.path, f"{place:032x}", {**FACTS, "host": f"host-{place:02}"})
        write_worker(store.path, f"{place + 100:032x}", {**FACTS, "host": "host-00", "computes": f"cell {place}"})
    page = Console(file=io.StringIO(), width=200)
    page.print(watching._block(rv.status(store)))
    told = page.file.getvalue()  # type: ignore[attr-defined]
    assert "host-00: 21 workers for 1 min" in told
    assert "and 17 more\n" in told
    assert "8 more hosts" in told
    assert "21 worker" in told
    assert "40 workers on 20 hosts" in status_line(rv.status(store))


class Process:
    """A command in another process, on a terminal of 40 columns or with its output in a pipe."""

    def __init__(self, place: Path, *words: object, terminal: bool = False) -> None:
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from robustvit.cli.app import main; "
        line = [sys.executable, "-c", f"{code}sys.argv[0] = 'robustvit'; main()", *map(str, words)]
        environment = {**os.environ, "COLUMNS": "40", "TERM": "xterm"}
        own, its = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(line, cwd=place, env=environment, stdout=its, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        os.close(its)
        self.own = own

    def until(self, text: str) -> None:
        """Reads until a text has come."""
        told = ""
        while text not in told:
            more = self._more()
            assert more, told
            told += more

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """The exit code, and what was printed since."""
        if number is not None:
            self.process.send_signal(number)
        told = ""
        while more := self._more():
            told += more
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, told, err.decode()

    def _more(self) -> str:
        assert select.select([self.own], [], [], 200)[0]
        try:
            return os.read(self.own, 1 << 16).decode(errors="replace")
        except OSError:  # a terminal that nobody writes to any more
            return ""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self.own)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    (tmp_path / "slow.py").write_text(PLUGIN)
    (tmp_path / "slow.yaml").write_text(SUITE)
    begun: list[Process] = []

    def started(*words: object, **about: Any) -> Process:
        begun.append(Process(tmp_path, *words, **about))
        return begun[-1]

    yield started
    for one in begun:
        one.close()


RUN = ("run", "--suite", "slow.yaml", "--allow-code", "--limit", "6", "--store", "s", "-q")


def seen(store: Path, what: Callable[[Any], bool]) -> Any:
    """The status of a store once something holds of it."""
    last = time.monotonic() + 300
    while True:
        assert time.monotonic() < last
        if Store.is_at(store) and what(found := rv.status(store)):
            return found
        time.sleep(0.2)


@pytest.mark.long
def test_a_run_is_watched_until_it_is_over(begin: Callable[..., Process], tmp_path: Path) -> None:
    run = begin(*RUN)
    found = seen(tmp_path / "s", lambda one: bool(one.workers) and "slow" in one.workers[0].computes)
    assert (found.state, found.complete, found.cells) == ("going on", 1, 4)
    assert (found.workers[0].process, found.workers[0].rows, found.workers[0].device) == (run.process.pid, 6, "cpu")
    status = begin("status", "s", "--watch", "0.2")
    live = begin("status", "s", terminal=True)
    status.until("1 of 4 cells · 6 of 24 rows")
    status.until("1 worker on 1 host · going on")
    live.until("1 of 4 cells · 6 of 24 rows")
    (tmp_path / "go").touch()
    assert run.end()[0] == 0
    code, out, err = status.end()
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("slow, demo · 4 of 4 cells · 24 of 24 rows · complete")
    code, out, err = live.end()
    assert (code, err) == (0, "")
    assert "4 of 4 cells · 24 of 24 rows" in out
    assert not (tmp_path / "s" / "workers").exists()


@pytest.mark.long
def test_a_killed_run_is_seen_until_it_expires_and_swept_by_the_next(begin: Callable[..., Process], tmp_path: Path) -> None:
    run = begin(*RUN)
    seen(tmp_path / "s", lambda one: bool(one.workers) and one.complete == 1)
    run.end(signal.SIGKILL)
    assert len(rv.status(tmp_path / "s").workers) == 1
    (left,) = (tmp_path / "s" / "workers").glob("*.json")
    then = left.stat().st_mtime - EXPIRY - 60
    os.utime(left, (then, then))
    assert rv.status(tmp_path / "s").workers == ()
    (tmp_path / "go").touch()
    assert begin(*RUN).end()[0] == 0
    assert not left.parent.exists()
    assert rv.status(tmp_path / "s").state == "complete"


@pytest.mark.slow
def test_ctrl_c_ends_a_live_status_with_exit_code_0(begin: Callable[..., Process], store: Store) -> None:
    for about in ({"terminal": True}, {}):
        live = begin("status", store.path, "--watch", "0.2", **about)
        live.until("made-up, a, b")
        code, _, err = live.end(signal.SIGINT)
        assert (code, err) == (0, "")
