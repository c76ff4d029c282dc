"""Scores that were kept in the user's cache: the same numbers, found only where all that they follow from is the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store
from robustvit.records.user_cache import cache_folder
from robustvit.results import cell_scores
from robustvit.results.leaderboard import build_leaderboard, leaderboard
from robustvit.results.paired_best import PairedTests
from robustvit.results.scoring import cell_errors, group_scores, score_files
from robustvit.spec.registry import metric

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
METRICS = ["top1", "nll", "ece", "corruption_error", "mean_corruption_error"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose cells were scored from their rows, one entry a cell."""
    models: list[str] = []
    asked = cell_scores._deferred

    def noted(reader: Any, cell: Any, *rest: Any) -> Any:
        models.append(cell.question.model)
        return asked(reader, cell, *rest)

    monkeypatch.setattr(cell_scores, "_deferred", noted)
    return models


def cells(answered: Columns, *models: str, n: int = 600) -> dict[tuple[str, str, str], dict[str, Any]]:
    rng = np.random.default_rng(3)
    return {(m, "fog" if level else "clean", level): answered(rng.random(n) < 0.8) for m in models for level in ("", "1", "2")}


def kept() -> list[Path]:
    return sorted(path for path in (cache_folder() / "scores").glob("*.json") if not path.name.startswith("samples-"))


@pytest.fixture(autouse=True)
def _no_samples_in_memory() -> None:
    cell_errors._samples.cache_clear()  # each test has a cache of its own


def test_kept_scores_are_the_computed_ones_and_no_row_is_read_again(make_store: Make, answered: Columns, read: list[str]) -> None:
    store = make_store(cells(answered, "a", "b"), metrics=METRICS)
    first = leaderboard(store)
    assert read == ["a"] * 3 + ["b"] * 3
    assert len(kept()) == 2
    second = leaderboard(Store(store.path))
    assert len(read) == 6
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert first.attrs == second.attrs


def test_kept_errors_are_the_computed_ones_and_ranks_read_no_row(
    make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    made = cells(answered, "a", "b", n=603)  # the last byte has bits to spare
    store = make_store(made, metrics=METRICS)
    first, second = build_leaderboard(store), build_leaderboard(Store(store.path))
    assert first.errors.keys() == second.errors.keys()
    assert len(first.errors) == 6
    for (suite, cell), one in first.errors.items():
        other = second.errors[suite, cell]
        assert one.samples.equals(other.samples)
        np.testing.assert_array_equal(one.wrong, other.wrong)
        key = next((row.model, row.scenario, row.severity) for row in first.rows.itertuples() if row.cell == cell)
        rows = pd.DataFrame({name: made[key][name] for name in ("label", "pred")}, index=made[key]["sample"])
        assert (rows["pred"] != rows["label"]).loc[list(other.samples)].tolist() == other.wrong.tolist()
    assert next(iter(second.errors.values())).samples is [*second.errors.values()][-1].samples

    monkeypatch.setattr("robustvit.records.cells.RowReader.rows", lambda *given: pytest.fail("a row was read"))
    means = [part for _, part in second.rows[second.rows["metric"] == "corruption_error"].groupby("model")]
    ranks = {id(board): [one.text for one in PairedTests(board).ranks(means)] for board in (first, second)}
    assert ranks[id(first)] == ranks[id(second)]


def test_errors_whose_ids_are_kept_no_more_are_read_from_the_rows(make_store: Make, answered: Columns) -> None:
    store = make_store(cells(answered, "a", "b"), metrics=METRICS)
    first = build_leaderboard(store)
    for path in (cache_folder() / "scores").glob("samples-*"):
        path.unlink()
    cell_errors._samples.cache_clear()
    second = build_leaderboard(Store(store.path))
    assert first.errors
    assert not second.errors
    means = [part for _, part in second.rows[second.rows["metric"] == "corruption_error"].groupby("model")]
    assert PairedTests(first).ranks(means) == PairedTests(second).ranks(means)


def test_one_model_more_reads_that_model_alone(tmp_path: Path, make_store: Make, answered: Columns, read: list[str]) -> None:
    made = cells(answered, "a", "b", "c")
    leaderboard(make_store({key: value for key, value in made.items() if key[0] != "c"}, metrics=METRICS))
    read.clear()
    more = leaderboard(make_store(made, metrics=METRICS))
    assert set(read) <= {"c"} or set(read) == {"a", "b", "c"}  # the files of a and b were written anew where the store is
    read.clear()
    assert leaderboard(tmp_path / "results").equals(more)
    assert not read


@pytest.mark.parametrize("what", ["rows", "metric", "code", "image table"])
def test_scores_are_computed_again_where_what_they_follow_from_is_another(
    what: str, make_store: Make, answered: Columns, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(cells(answered, "a"), metrics=METRICS)
    if what == "image table":
        compact(store)
    before = leaderboard(store)
    read.clear()
    metrics = None
    if what == "rows":
        path = next(iter(store.path.glob("cells/*/*.parquet")))
        os.utime(path, ns=(1, 1))
    elif what == "metric":
        metrics = METRICS[:2]
    elif what == "code":
        monkeypatch.setattr(group_scores, "code_digest", lambda: "another")
    else:
        os.utime(next((store.path / "ids").iterdir()), ns=(1, 1))
    after = leaderboard(Store(store.path), metrics=metrics)
    assert read == ["a"] * 3
    assert metrics is not None or after.equals(before)


def test_unfinished_cells_and_metrics_of_others_are_not_kept(make_store: Make, answered: Columns) -> None:
    leaderboard(make_store(cells(answered, "a"), metrics=METRICS, asked=700))
    assert not kept()

    @metric(name="mine_own", source="made", unit="%", higher_is_better=True)
    def mine(records: pd.DataFrame) -> np.ndarray:
        return np.ones(len(records))

    store = make_store(cells(answered, "a"), metrics=METRICS, name="other")
    leaderboard(store, metrics=["top1", "mine_own"])
    assert not kept()
    leaderboard(store)
    assert len(kept()) == 1


@pytest.mark.parametrize("damage", ["cut", "number", "not JSON", "another's"])
def test_a_kept_file_that_is_not_whole_is_as_if_it_were_not_there(
    damage: str, make_store: Make, answered: Columns, read: list[str]
) -> None:  # fmt: skip
    store = make_store(cells(answered, "a", "b"), metrics=METRICS)
    before = leaderboard(store)
    one, other = kept()
    text = one.read_text()
    number = json.loads(text.partition("\n")[2])["cells"][0]["scores"][0][3][0]
    changed = text.replace(f"[{number},", f"[{number + 1},", 1)
    assert changed != text
    made = {"cut": text[:-20], "number": changed, "not JSON": "\0", "another's": other.read_text()}
    one.write_text(made[damage])
    read.clear()
    assert leaderboard(Store(store.path)).equals(before)
    assert len(read) == 3


def test_a_cache_that_cannot_be_written_is_no_fault(
    tmp_path: Path, make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("")
    store = make_store(cells(answered, "a"), metrics=METRICS)
    before = leaderboard(store)
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "file"))
    assert leaderboard(Store(store.path)).equals(before)


def test_the_least_recently_used_scores_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "_MOST", 10)
    for number in range(10):
        score_files.keep_scores(f"{number:020d}", number)
        os.utime(kept()[-1], ns=(number + 1, number + 1))
    assert score_files.read_scores(f"{0:020d}") == 0  # used now
    score_files.keep_scores(f"{10:020d}", 10)
    left = {int(path.stem) for path in kept()}
    assert len(left) == 9
    assert {0, 10} <= left
    assert not {1, 2} & left


def test_scores_take_no_more_room_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "_BYTES", 10_000)
    for number in range(20):
        score_files.keep_scores(f"{number:020d}", "x" * 1900)
        os.utime(cache_folder() / "scores" / f"{number:020d}.json", ns=(number + 1, number + 1))
    left = [int(path.stem) for path in kept()]
    assert sum(path.stat().st_size for path in kept()) <= 10_000
    assert left == [*range(20 - len(left), 20)]
    assert len(left) >= 4


def test_groups_scored_side_by_side_have_the_same_numbers(make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(cells(answered, *"abcdef", n=400), metrics=METRICS)
    monkeypatch.setattr(group_scores, "_LEAST", 10**9)  # nothing is kept
    alone = leaderboard(store)
    monkeypatch.setattr(group_scores, "_MANY", 0)
    assert leaderboard(Store(store.path)).equals(alone)
