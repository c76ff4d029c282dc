"""submit on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from robustvit.cli.app import app
from robustvit.errors import StoreError, UsageError
from robustvit.records.store import Store


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Store:
    return make_store({("m", "clean", ""): answered([True] * 7 + [False] * 3)})


def said(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["submit", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_an_entry_is_written_and_compared(store: Store, tmp_path: Path) -> None:
    lines = said(store.path, "-o", tmp_path / "mine").splitlines()
    assert lines == [
        f"Wrote {tmp_path / 'mine'}: m on made-up, 1 numbers of 1 cells.",
        "digits: all 10 samples",
        "gradients: no attack",
    ]
    assert f"is what {store.path} gives: m on made-up, 1 numbers, 1 cells." in said(store.path, "--against", tmp_path / "mine")
    assert said(store.path, "--against", tmp_path / "mine", "-q") == ""


def test_the_entry_is_called_entry_and_json_has_its_facts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = json.loads(said(store.path, "--json"))
    assert facts == {key: value for key, value in json.loads((tmp_path / "entry/entry.json").read_text()).items() if key != "checksum"}


def test_an_entry_of_another_store_is_refused(store: Store, make_store: Callable[..., Store], answered: Any, tmp_path: Path) -> None:
    said(store.path, "-o", tmp_path / "mine")
    other = make_store({("m", "clean", ""): answered([True] * 8 + [False] * 2)}, name="other")
    with pytest.raises(StoreError, match="is not what its store gives"):
        said(other.path, "--against", tmp_path / "mine")
    with pytest.raises(UsageError, match="leave --output, --model and --suite out"):
        said(store.path, "--against", tmp_path / "mine", "-o", tmp_path / "yours")
