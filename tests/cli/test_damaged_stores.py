"""What commands that read a store do where a part of it is damaged: they show what is there, tell the damage, and do not exit with 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustvit.cli.exit_codes import CELLS_FAILED
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store

GONE = "the table of samples"


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Store:
    """Two models under two scenarios: the cells of fog are compacted, and their table of samples is gone; the others are whole."""
    made = make_store({(name, "fog", "1"): answered([True] * 9 + [False]) for name in ("m", "n")})
    compact(made)
    (table,) = (made.path / "ids").iterdir()
    table.unlink()
    right = answered([True] * 5 + [False] * 5)
    make_store({(name, *one): right for name in ("m", "n") for one in (("clean", ""), ("snow", "1"))}, started="2026-01-02T00:00:00+00:00")
    return Store(made.path)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["leaderboard", "--format", "csv"], "snow"),
        (["report", "-o", "page.html"], "Report:"),
        (["report", "--bundle", "folder"], "Report:"),
        (["figure", "overview", "--model", "m", "-o", "one.svg"], ""),
        (["compare", "m", "n"], "snow"),
        (["compare", "m", "n", "--flips"], ""),
        (["store", "stats"], "damaged: ids/"),
        (["store", "stats", "--json"], '"ids/'),
    ],
)
def test_what_is_there_is_shown_and_the_damage_told(
    robustvit: Any, store: Store, words: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.ERROR):
        done = robustvit(*words, "--store", store.path)
    assert done.code == CELLS_FAILED, done.err
    assert shown in done.out
    assert sum(GONE in one.message for one in caplog.records) == (words[0] != "store")


def test_failed_cells_with_one_reason_are_one_line(robustvit: Any, store: Store) -> None:
    said = robustvit("leaderboard", "--store", store.path, "--format", "csv").err
    assert said.count("failed:") == 1
    assert "failed: m · fog 1, n · fog 1: " in said


def test_averages_name_the_cell_whose_damage_was_told(robustvit: Any, make_store: Any, answered: Any) -> None:
    right = answered([True] * 6)
    cells = {("m", *one): right for one in (("clean", ""), ("fog", "1"), ("fog", "2"))}
    made = make_store(cells, metrics=("top1", "corruption_error"), name="other")
    (piece,) = (made.path / "cells" / made.manifests()[0].cells[1].cell).glob("*.parquet")
    piece.write_bytes(piece.read_bytes()[:200])
    done = robustvit("leaderboard", "--store", made.path)
    assert done.code == CELLS_FAILED
    assert done.err.count("is not whole") == 1
    assert done.err.endswith("partial: m · corruption_error: 1 of 2 cells; lacking fog 1")


def test_a_figure_of_no_name_is_told_before_a_store_is_read(robustvit: Any, tmp_path: Path) -> None:
    for words, told in ((["atacks"], "'attacks'"), (["attacks", "-o", "a.gif"], "--output"), (["attacks", "--cost", "macs"], "'pareto'")):
        done = robustvit("figure", *words, "--store", tmp_path / "nowhere")
        assert (done.code, told in done.err) == (2, True), done.err


def test_the_damage_is_why_cells_are_not_compared(robustvit: Any, store: Store, make_store: Any, answered: Any) -> None:
    assert f"fog 1: {store.path}/ids/" in robustvit("compare", "m", "n", "--store", store.path).out
    whole = make_store({("m", "fog", "1"): answered([True] * 10)}, name="whole")
    for stores, side in (((store, whole), "a"), ((whole, store), "b")):
        done = robustvit("diff", *(one.path for one in stores))
        assert done.code == CELLS_FAILED
        assert f": {side}: {store.path}/ids/" in done.out


def test_other_store_of_a_report_counts(robustvit: Any, store: Store, make_store: Any, answered: Any, tmp_path: Path) -> None:
    whole = make_store({("m", "fog", "1"): answered([True] * 10)}, name="whole")
    for one, other in ((store, whole), (whole, store)):
        done = robustvit("report", "--store", one.path, "--against", other.path, "-o", tmp_path / "page.html")
        assert done.code == CELLS_FAILED


@pytest.mark.parametrize("form", ["hf", "duckdb"])
def test_damaged_rows_are_not_exported(robustvit: Any, store: Store, form: str, tmp_path: Path) -> None:
    pytest.importorskip("duckdb" if form == "duckdb" else "pyarrow")
    done = robustvit("store", "export", "--store", store.path, "--to", tmp_path / "made", "-f", form)
    assert done.code == 1
    assert GONE in done.err
    assert not list(tmp_path.glob("made*"))
    assert done.err.count(GONE) == 1
    assert list(tmp_path.glob("*made*")) == []
