"""Hostile surroundings: outputs that are full or closed, and terminals that show few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import answers, write_store

CHECK = "name: a\ntitle: é → ü\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n"
FULL = Path("/dev/full")


def robustvit(*words: str, place: Path, **about: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **about.pop("env", {})}  # type: ignore[dict-item]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **about}
    return subprocess.run([sys.executable, "-m", "robustvit", *words], cwd=place, env=env, timeout=60, text=True, check=False, **given)  # type: ignore[call-overload, no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("list", "attacks"), ("list", "attacks", "--json"), ("check",), ("--help",), ("list", "metrics", "top1")]
)
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_output_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = robustvit(*words, place=tmp_path, stdout=full)
    assert done.returncode == 1
    assert "the standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("words", [("list", "attacks"), ("check", "é.yaml"), ("list", "metrics", "absurd→")])
def test_any_encoding_of_the_terminal_will_do(tmp_path: Path, env: dict[str, str], words: tuple[str, ...]) -> None:
    (tmp_path / "é.yaml").write_text(CHECK, "utf-8")
    done = robustvit(*words, place=tmp_path, env=env)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "absurd→" in words else 0)


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = robustvit("list", "attacks", place=tmp_path, stdout=writing)
    os.close(writing)
    assert done.stderr == ""


HOSTILE = {  # surroundings: what is about the process, by name
    "no-home": {"env": {"HOME": None, "XDG_CACHE_HOME": None}},
    "home-gone": {"env": {"HOME": "/nonexistent", "XDG_CACHE_HOME": None}},
    "no-tmpdir": {"env": {"TMPDIR": "/nonexistent"}},
    "narrow": {"env": {"COLUMNS": "1"}},
    "odd-columns": {"env": {"COLUMNS": "abc", "LINES": "-5"}},
    "no-terminal": {"env": {"TERM": None}},
    "c-locale": {"env": {"LC_ALL": "C", "LANG": "C"}},
    "closed-input": {"closed": 0},
    "closed-output": {"closed": 1},
    "closed-errors": {"closed": 2},
}
WORDS = {
    "list": (("list", "attacks"), 0),
    "run": (("run", "--suite", "tiny.yaml", "--limit", "2", "--store", "s"), 0),
    "board": (("leaderboard", "--store", "made"), 0),
    "absent": (("leaderboard", "--store", "absent"), 1),
    "usage": (("check", "absent.yaml"), 2),
}


PAIRS = [(about, "usage") for about in HOSTILE]
PAIRS += [("home-gone", "run"), ("no-tmpdir", "run"), ("closed-output", "board"), ("narrow", "board"), ("closed-errors", "absent")]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("about", "words"), PAIRS)
def test_hostile_surroundings_change_no_exit_code(tmp_path: Path, about: str, words: str) -> None:
    (tmp_path / "tiny.yaml").write_text(CHECK.replace("é → ü", "t"), "utf-8")
    write_store(tmp_path / "made", {("a", "clean", ""): answers([True] * 6 + [False] * 2)})
    line, code = WORDS[words]
    env = {**os.environ, **HOSTILE[about].get("env", {})}  # type: ignore[dict-item]
    closed = HOSTILE[about].get("closed")
    shell = 'exec "$@"' + (f" {closed}>&-" if closed is not None else "")
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "robustvit", *line]
    given = {key: value for key, value in env.items() if value is not None}
    done = subprocess.run(command, cwd=tmp_path, env=given, timeout=120, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == code, done.stderr
