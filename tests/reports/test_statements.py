"""The statements about the zoo: verdicts, and the committed table is that of the Records."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from robustvit.results.two_stores.paired_values import PairedDifference

REPORTS = Path(__file__).resolve().parents[2] / "reports"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPORTS))
    sys.modules.pop("statements", None)
    return importlib.import_module("statements")


@pytest.mark.parametrize(
    ("low", "high", "verdicts"),
    [
        (0.01, 0.2, ("supported", "contradicted", "contradicted")),
        (-0.2, -0.01, ("contradicted", "supported", "contradicted")),
        (-0.1, 0.2, ("not shown", "not shown", "no difference shown")),
        (0.0, 0.2, ("not shown", "not shown", "no difference shown")),
    ],
)
def test_a_verdict_is_that_of_an_interval(statements: ModuleType, low: float, high: float, verdicts: tuple[str, ...]) -> None:
    found = PairedDifference((low + high) / 2, low, high, 64)
    assert tuple(statements.verdict(found, expected) for expected in ("higher", "lower", "the same")) == verdicts


@pytest.mark.long
def test_the_committed_table_is_that_of_the_records(statements: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["statements.py", "--check"])
    statements.main()
    assert statements.table().count("\n") >= 11


@pytest.mark.parametrize(
    ("change", "words"), [({"model": "demo/pgd"}, "no model 'demo/pgd'"), ({"number": "clean top1"}, "no number 'clean top1'")]
)
def test_a_statement_about_what_is_not_there_is_refused(statements: ModuleType, change: dict[str, str], words: str) -> None:
    board = statements.build_leaderboard(REPORTS / "zoo-records", suite="quick")
    asked = {"model": "demo/pgd-at", "number": "clean top-1"} | change
    with pytest.raises(SystemExit, match=words):
        statements.number_of(board, asked["model"], asked["number"])
