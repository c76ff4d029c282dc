"""The command line called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from robustvit.cli import printing
from robustvit.cli.app import main

WIDTH = 250  # columns of the terminal: wide enough that no table folds


class Result(NamedTuple):
    """What a command printed, and its exit code. Line breaks in `err` are folded."""

    code: int
    out: str
    err: str


@pytest.fixture
def robustvit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Calls the command line in this process."""
    for console in (printing.out, printing.err):  # they may have been made with another width
        monkeypatch.setattr(console, "_width", WIDTH)

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["robustvit", *(str(word) for word in words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        result = capsys.readouterr()
        return Result(code, result.out, " ".join(result.err.split()))

    return call
