"""Where progress is shown: a bar on a terminal, a line in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich import console

from robustvit.evaluation.outcome.progress import shown_or_default


def test_a_callback_is_taken_and_false_is_none() -> None:
    def mine(done: int, total: int, what: str) -> None:
        pass

    with shown_or_default(mine) as shown:
        assert shown is mine
    with shown_or_default(False) as shown:
        assert shown is None


def test_nothing_is_shown_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_or_default(None) as shown:
        assert shown is None
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console.Console, "is_terminal", True)
    with shown_or_default(None) as shown:
        assert shown is not None
        shown(3, 10, "fog [3]")
    assert "fog [3]" in capsys.readouterr().err


def test_a_notebook_has_one_line_that_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed: list[Any] = []
    handle = SimpleNamespace(update=lambda line: displayed.append(("renewed", line)))

    def display(line: str, display_id: bool) -> Any:
        displayed.append(("new", line))
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))  # type: ignore[arg-type]
    with shown_or_default(None) as shown:
        assert shown is not None
        shown(0, 10, "<fog>")
        shown(5, 10, "too soon")
        shown(10, 10, "done")
    assert [kind for kind, _ in displayed] == ["new", "renewed"]
    assert "&lt;fog&gt;" in displayed[0][1]
    assert "100% · done" in displayed[1][1]
