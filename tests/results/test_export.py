"""Other projects' formats, read back as their readers do."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import StoreFull, UsageError
from robustvit.records.store import Store
from robustvit.results.export import FORMATS, export
from robustvit.results.exports.formats import format_names
from robustvit.results.leaderboard import Leaderboard, build_leaderboard, read_csv

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
METRICS = ["top1", "top5", "nll", "mce_alexnet", "mean_err_15"]
TEXTS = [format for format in FORMATS if format not in format_names() and format != "parquet"]


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Leaderboard:
    cells = {("vit_b|16", "clean", ""): answered([True] * 9 + [False]), ("vit_b|16", "fog", "1"): answered([True] * 5 + [False] * 5)}
    return build_leaderboard(make_store(cells, metrics=METRICS))


def only(board: Leaderboard, scenario: str) -> Leaderboard:
    return replace(board, rows=board.rows[board.rows["scenario"] == scenario])


def test_csv_comes_back_as_it_was(board: Leaderboard, tmp_path: Path) -> None:
    text = export(board, "csv", tmp_path / "board.csv")
    assert (tmp_path / "board.csv").read_text() == text
    pd.testing.assert_frame_equal(read_csv(tmp_path / "board.csv"), board.rows, rtol=1e-9)


def test_plain_pandas_reads_numbers_and_statuses(board: Leaderboard) -> None:
    found = pd.read_csv(io.StringIO(export(board, "csv")))
    assert list(found.columns) == list(board.rows.columns)
    assert list(found["status"]) == list(board.rows["status"])
    assert "undefined" in set(found["status"])
    assert np.allclose(found["value"], board.rows["value"], equal_nan=True)


def test_a_csv_of_an_earlier_version_is_read_with_its_status_as_it_is_now(board: Leaderboard, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(export(board, "csv").replace(",undefined,", ",n/a,"))
    assert "n/a" in (tmp_path / "old.csv").read_text()
    pd.testing.assert_frame_equal(read_csv(tmp_path / "old.csv"), board.rows, rtol=1e-9)


def test_parquet_comes_back_as_it_was_and_needs_a_path(board: Leaderboard, tmp_path: Path) -> None:
    assert export(board, "parquet", tmp_path / "board.parquet") == ""
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "board.parquet"), board.rows)
    with pytest.raises(UsageError, match="name a file"):
        export(board, "parquet")


def test_json_is_records_with_null_for_no_number(board: Leaderboard) -> None:
    records = json.loads(export(board, "json"))
    assert len(records) == len(board.rows)
    assert [record["value"] for record in records if record["status"] == "undefined"] == [None, None]


def test_markdown_escapes_what_would_break_the_table(board: Leaderboard) -> None:
    lines = export(board, "md").splitlines()
    assert r"vit\_b\|16" in lines[2]
    assert len({line.replace(r"\|", "").count("|") for line in lines[: lines.index("")]}) == 1


def test_latex_escapes_special_characters(board: Leaderboard) -> None:
    board = replace(board, rows=board.rows.assign(model=r"50%_of #1 & \all {x} → <y>"))
    name = r"50\%\_of \#1 \& \textbackslash{}all \{x\} $\rightarrow$ \textless{}y\textgreater{}"
    assert name in export(board, "latex").replace(r"\allowbreak{}", "")


def test_an_empty_board_can_be_written_in_every_text_format(board: Leaderboard) -> None:
    for format in TEXTS:
        assert isinstance(export(replace(board, rows=board.rows.iloc[:0]), format), str)


def test_an_unknown_format_names_the_nearest(board: Leaderboard) -> None:
    with pytest.raises(UsageError, match="Did you mean 'latex'"):
        export(board, "latx")


def test_a_path_that_cannot_be_written_is_one_message(board: Leaderboard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFull, match="cannot write"):
        export(board, "csv", tmp_path / "file" / "board.csv")


def attacked(make_store: Make, answered: Columns, fgsm: int, pgd: int) -> Leaderboard:
    """Two attacks at 4/255 on 20 samples that were correct when clean, and how many stay robust to each."""
    left = {"fgsm": fgsm, "pgd": pgd}
    cells = {("m", name, "4/255"): answered([True] * n + [False] * (20 - n), attacked=[True] * 20) for name, n in left.items()}
    return build_leaderboard(make_store(cells, metrics=["robust_accuracy"], name=str(left)))


def test_every_format_takes_a_board_with_verdicts(make_store: Make, answered: Columns) -> None:
    board = attacked(make_store, answered, 5, 15)
    assert all(export(board, format) for format in TEXTS)
    assert r"75.0 \[53.1, 88.8\] !" in export(board, "md")
    assert "suspect: one step beats iterative (10 of 20" in export(board, "csv")


def test_one_attack_alone_is_shown_with_its_verdict(make_store: Make, answered: Columns) -> None:
    board = attacked(make_store, answered, 5, 15)
    assert "suspect" in export(only(board, scenario="pgd"), "md")
