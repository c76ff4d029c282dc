"""The fits that docs/factors.md prints are those that its commands print."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from robustvit.cli.app import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "factors.md"
SHOWN = re.findall(r"^```sh\n(.*?)\n```\n\n```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```sh\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
SILENT = [block for block in BLOCKS if block not in {command for command, _ in SHOWN}]


def test_the_page_shows_two_fits() -> None:
    assert len(SHOWN) == 2
    assert len(SILENT) == 1


@pytest.mark.parametrize(("command", "text"), SHOWN, ids=["augreg", "scaling"])
def test_a_fit_prints_what_the_page_shows(
    command: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    main_without_exit()
    assert capsys.readouterr().out == text


def test_the_other_commands_write_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in SILENT[0].splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        main_without_exit()
    assert {path.name for path in tmp_path.iterdir()} == {"effective.md", "pareto.svg", "factors.csv"}


def main_without_exit() -> None:
    code: object = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    assert not code
