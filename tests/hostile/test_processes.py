"""Hostile surroundings: outputs that are full or closed, and terminals that show few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
