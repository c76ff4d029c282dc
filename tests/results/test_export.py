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
from robustvit.metrics.corruption import SEVERITIES, alexnet
from robustvit.records.store import Store
from robustvit.results.export import FORMATS, export
from robustvit.results.leaderboard import Leaderboard, build_leaderboard, read_csv

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
METRICS = ["top1", "top5", "nll", "mce_alexnet", "mean_err_15"]


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Leaderboard:
    cells = {("vit_b|16", "clean", ""): answered([True] * 9 + [False]), ("vit_b|16", "fog", "1"): answered([True] * 5 + [False] * 5)}
    return build_leaderboard(make_store(cells, metrics=METRICS))


@pytest.fixture
def whole(make_store: Make, answered: Columns) -> Leaderboard:
    cells = {("m", name, severity): answered([True] * 3 + [False]) for name in alexnet()["ce_mean"] for severity in SEVERITIES}
    store = make_store({("m", "clean", ""): answered([True] * 4), **cells}, metrics=METRICS, data="imagenet", classes=1000)
    return build_leaderboard(store)


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
    name = r"50\%\_of \#1 \& \textbackslash all \{x\} $\rightarrow$ \textless{}y\textgreater{}"
    assert name in export(board, "latex")


def test_robustbench_files_have_their_names_and_nothing_invented(whole: Leaderboard) -> None:
    (found,) = json.loads(export(whole, "robustbench"))
    assert (found["clean_acc"], found["corruptions_acc"], found["dataset"], found["threat_model"]) == (
        100.0,
        75.0,
        "imagenet",
        "corruptions",
    )
    assert found["corruptions_mce"] == pytest.approx(100 * 0.25 * np.mean(1 / np.array(list(alexnet()["ce_mean"].values()))), abs=0.01)
    assert found["authors"] is found["additional_data"] is found["autoattack_acc"] is None


def test_an_incomplete_average_is_null_for_robustbench(board: Leaderboard) -> None:
    (found,) = json.loads(export(board, "robustbench"))
    assert found["corruptions_mce"] is found["corruptions_acc"] is None
    assert found["clean_acc"] == 90.0


def test_timm_has_its_columns(board: Leaderboard) -> None:
    found = pd.read_csv(io.StringIO(export(board, "timm")))
    assert list(found.columns) == ["model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation"]
    assert found.iloc[0].to_list() == ["vit_b|16", 32, 90.0, 10.0, 100.0, 0.0, 5.7, 0.889, "bicubic"]


def test_an_empty_board_can_be_written_in_every_text_format(board: Leaderboard) -> None:
    for format in FORMATS:
        if format != "parquet":
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
    assert all(export(board, format) for format in FORMATS if format != "parquet")
    assert r"75.0 \[53.1, 88.8\] !" in export(board, "md")
    assert "suspect: one step beats iterative (10 of 20" in export(board, "csv")


def test_robustbench_files_mark_unreliable_evaluations(make_store: Make, answered: Columns) -> None:
    (suspect,), (unchecked,) = (json.loads(export(attacked(make_store, answered, *left), "robustbench")) for left in ((5, 15), (15, 5)))
    assert (suspect["unreliable"], unchecked["unreliable"]) == (True, None)
    assert suspect["footnote"].startswith("gradients suspect: one step beats iterative")


def test_one_attack_alone_is_shown_with_its_verdict(make_store: Make, answered: Columns) -> None:
    board = attacked(make_store, answered, 5, 15)
    assert "suspect" in export(only(board, scenario="pgd"), "md")
