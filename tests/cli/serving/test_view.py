"""The command as a process: beside a run, until a signal, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robustvit.errors import ONLY_COMPUTING

ROOT = Path(__file__).resolve().parents[3]
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background inherits that it is ignored
{before}
sys.argv = ["robustvit", *sys.argv[1:]]
from robustvit.cli.app import main
main()
"""
LEAN = f"sys.path.insert(0, {str(ROOT / 'tests')!r}); from boards import Blocked; sys.meta_path.insert(0, Blocked({(*ONLY_COMPUTING,)!r}))"
SUITE = """
name: slow
title: One cell after the other
data: digits
metrics: [top1, corruption_error]
scenarios: [clean, {"slow:slow": {severity: [1, 2, 3]}}]
"""
PLUGIN = """
import time
import robustvit as rv

@rv.corruption(severity="severity", family="noise")
def slow(images, draws, *, severity: rv.Severity):
    \"\"\"Darkens, after a while.\"\"\"
    time.sleep(0.3)
    return images / (1 + severity)
"""


class Viewing:
    """A view in another process."""

    def __init__(self, *words: object, place: Path, before: str = "") -> None:
        code = START.format(before=before)
        line = [sys.executable, "-c", code, "view", *map(str, words)]
        self.process = subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        self.url = self.first.split()[-1] if self.first else ""

    def get(self, below: str = "") -> str:
        with urllib.request.urlopen(self.url + below, timeout=60) as answer:
            return str(answer.read().decode())

    def words(self) -> str:
        bare = re.sub(r"<(style|script)>.*?</\1>", "", self.get(), flags=re.DOTALL)
        return " ".join(re.sub(r"<[^>]*>", " ", bare).replace("\u00a0", " ").split())

    def until(self, text: str) -> str:
        """The words of the page once a text is among them."""
        last = time.monotonic() + 90
        while text not in (found := self.words()):
            assert time.monotonic() < last, found
            time.sleep(0.05)
        return found

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """The exit code, and what was printed after the first line."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Callable[..., Viewing]]:
    begun: list[Viewing] = []

    def begin(*words: object, **about: Any) -> Viewing:
        begun.append(Viewing(*words, place=tmp_path, **about))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.mark.long
def test_a_run_is_seen_from_nothing_to_its_end_by_two_views(view: Callable[..., Viewing], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(PLUGIN)
    (tmp_path / "slow.yaml").write_text(SUITE)
    one, other = view("--store", "s"), view("--store", "s", "--suite", "slow")
    assert "There is no store yet at s" in one.words()
    line = [sys.executable, "-m", "robustvit", "run", "--suite", "slow.yaml", "--allow-code", "--store", "s", "--limit", "24", "--quiet"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    with subprocess.Popen(line, cwd=tmp_path, env=env) as run:
        seen = list(dict.fromkeys(states_until(one, run)))
        assert run.wait() == 0
    assert "complete 4 of 4 cells 96 of 96 rows" in other.until("complete 4 of 4 cells")
    assert seen[-1] == (4, 96)
    assert len(seen) > 2, seen  # neither only its beginning nor only its end
    assert seen == sorted(seen)
    assert seen[0][0] < 4
    assert "Robustness of demo" in one.get("report")
    assert [each.end() for each in (one, other)] == [(0, "The view has ended.\n", "")] * 2


def states_until(one: Viewing, run: subprocess.Popen[bytes]) -> Iterator[tuple[int, int]]:
    """How many cells and rows the page shows, until the run is complete."""
    last = time.monotonic() + 120
    while time.monotonic() < last:
        found = re.search(r"(\d+) of 4 cells (\d+) of 96 rows", one.words())
        if found:
            yield int(found[1]), int(found[2])
            if found[1] == "4":
                return
        assert run.poll() in (None, 0)
        time.sleep(0.03)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_line_and_no_error(view: Callable[..., Viewing], number: int) -> None:
    viewing = view("--store", "s")
    assert re.fullmatch(r"View of s, until Ctrl-C: http://127\.0\.0\.1:\d+/[\w-]{32}/\n", viewing.first)
    viewing.words()
    assert viewing.end(number) == (0, "The view has ended.\n", "")
    with pytest.raises(urllib.error.URLError):
        viewing.get()


def test_a_signal_that_the_process_ignores_from_its_beginning_is_ignored(view: Callable[..., Viewing]) -> None:
    viewing = view("--store", "s", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    viewing.process.send_signal(signal.SIGINT)
    assert "No run yet" in viewing.words()
    assert viewing.end()[0] == 0


def test_it_works_where_torch_is_not_installed(view: Callable[..., Viewing], make_store: Callable[..., Any], answered: Any) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 3 + [False])})
    viewing = view("--store", store.path, before=LEAN)
    assert "75.0 %" in viewing.until("clean top-1")
    assert "Robustness of a" in viewing.get("report")
    assert viewing.end()[0] == 0


def test_a_length_ends_it(robustvit: Callable[..., Any], tmp_path: Path) -> None:
    done = robustvit("view", "--store", tmp_path / "s", "--for", "0.1s")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1:] == ["The view has ended."]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "s").exists()


def test_the_browser_is_opened_where_that_is_wished(robustvit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) is None)
    quiet, loud = (robustvit("view", "--store", tmp_path, "--for", "0.1s", *more) for more in ((), ("--open",)))
    assert (quiet.code, loud.code) == (0, 0)
    assert opened == [loud.out.split()[5]]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "No browser could be opened" in robustvit("view", "--store", tmp_path, "--for", "0.2s", "--open").err


def test_options_come_from_the_environment(robustvit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTVIT_STORE", str(tmp_path / "there"))
    monkeypatch.setenv("ROBUSTVIT_VIEW_FOR", "0.1s")
    assert robustvit("view").out.startswith(f"View of {tmp_path / 'there'}, for 0.1s: ")
    assert "ROBUSTVIT_VIEW_FOR" in robustvit("view", "--help").out


def test_what_cannot_be_viewed_is_refused_in_a_line(robustvit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = {
            ("--port", port): f"--port {port} cannot be had: Address already in use. Give another one, or 0 for any that is free.",
            ("--port", 65536): "--port is 65536; it takes a whole number from 0 to 65,535.",
            ("--for", "soon"): "--for is 'soon'; it takes a time above nothing with its unit: 90s, 10m or 2h.",
            ("--store", tmp_path / "file"): "file exists and is not a store of robustvit; give an empty or a new place with --store.",
        }
        for words, told in lines.items():
            done = robustvit("view", *(("--store", tmp_path / "s") if "--store" not in words else ()), *words)
            assert (done.code in (1, 2), done.out) == (True, "")
            assert told in done.err
