"""A store as a data set for other programs: the same rows, as these programs read them."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from robustvit.errors import MissingExtra, StoreError, StoreFull, UsageError
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store
from robustvit.results.data_sets.store_export import export_store

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
KEYS = ["cell", "sample"]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    """Cells of several kinds, one requested by two suites, one not computed, one with logits and lists of its own."""
    fog = answered([True, False, True])
    wide = {
        **answered([True] * 3),
        "logits": np.arange(12.0).reshape(3, 4),
        "value_tokens": np.ones((3, 2)),
        "fact_real": [[1], [], [2, 3]],
    }
    make_store({("m", "fog", "1"): fog}, suite="first")
    return make_store(
        {
            ("m", "fog", "1"): fog, ("m", "fog", "2"): None, ("n", "fog", "1"): wide,
            ("n", "pgd", "4/255"): answered([False] * 3, attacked=[True] * 3),
        },
        suite="second", started="2026-01-02T00:00:00+00:00",
    )  # fmt: skip


def expected(store: Store) -> pd.DataFrame:
    frame = store.records("second").to_pandas()
    return frame.sort_values(KEYS, ignore_index=True)


def same(found: pd.DataFrame, store: Store) -> None:
    """Whether rows are those of the store, column by column."""
    whole = expected(store)
    found = found.sort_values(KEYS, ignore_index=True)
    assert len(found) == len(whole) == 9
    assert not whole[[name for name in whole if name not in (*found, "suite", "link")]].notna().any(axis=None)
    for name in [name for name in whole if name in found]:
        for one, other in zip(found[name], whole[name], strict=True):
            lacking = [value is None or (np.ndim(value) == 0 and pd.isna(value)) for value in (one, other)]
            assert lacking[0] == lacking[1], name
            assert lacking[0] or np.array_equal(np.asarray(one), np.asarray(other)), name


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_for_the_hub_holds_every_row_once(store: Store, tmp_path: Path, packed: bool) -> None:
    if packed:
        compact(store)
    folder = export_store(store, tmp_path / "made")
    same(pd.concat(pd.read_parquet(path) for path in sorted((folder / "rows").iterdir())), store)
    cells = pd.read_parquet(folder / "cells.parquet").set_index(["model", "scenario", "severity"])
    assert cells["rows"].to_dict() == {
        ("m", "fog", "1"): 3, ("m", "fog", "2"): 0, ("n", "fog", "1"): 3, ("n", "pgd", "4/255"): 3,
    }  # fmt: skip
    assert cells.loc[("m", "fog", "2"), "status"] == "partial"
    questions = pd.read_parquet(folder / "questions.parquet")
    assert sorted(questions["suite"]) == ["first", *["second"] * 4]
    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert [one["config_name"] for one in front["configs"]] == ["rows", "cells", "questions"]


def test_the_library_of_the_hub_reads_the_folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder = export_store(store, tmp_path / "made")
    found = datasets.load_dataset(str(folder), "rows", split="train", cache_dir=str(tmp_path / "cache"))
    same(found.to_pandas(), store)
    assert len(datasets.load_dataset(str(folder), "cells", split="train", cache_dir=str(tmp_path / "cache"))) == 4


def test_a_duckdb_file_has_three_views(store: Store, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = export_store(store, tmp_path / "made", "duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        same(connection.sql("from rows").df(), store)
        counted = connection.sql("select model, scenario, severity, rows from cells order by all").fetchall()
        assert counted == [("m", "fog", "1", 3), ("m", "fog", "2", 0), ("n", "fog", "1", 3), ("n", "pgd", "4/255", 3)]
        assert connection.sql("select count(*) from questions join cells using (cell)").fetchall() == [(5,)]
        mean = connection.sql("select 100 * avg((pred = label)::int) from rows where model = 'm' and severity = '1'").fetchall()
        assert mean[0][0] == pytest.approx(200 / 3)


def test_a_suite_and_a_model_are_chosen(store: Store, tmp_path: Path) -> None:
    folder = export_store(store, tmp_path / "made", suite="second", models=["n"])
    assert set(pq.read_table(folder / "rows" / "00000.parquet")["model"].to_pylist()) == {"n"}
    with pytest.raises(StoreError, match="has no model 'x'"):
        export_store(store, tmp_path / "other", models=["x"])


@pytest.mark.parametrize("format", ["hf", "duckdb"])
def test_nothing_is_written_over_or_into_what_is_there(store: Store, tmp_path: Path, format: str) -> None:
    if format == "duckdb":
        pytest.importorskip("duckdb")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("mine")
    for place, said in ((tmp_path / "mine", "is there already"), (store.path / "runs" / "x", "is inside the store")):
        with pytest.raises(UsageError, match=said):
            export_store(store, place, format)
    with pytest.raises(UsageError, match=r"--format 'duck' is unknown\. Did you mean 'duckdb'"):
        export_store(store, tmp_path / "new", "duck")
    with pytest.raises(StoreFull):
        export_store(store, "/proc/nowhere/x", format)


def test_an_export_that_fails_leaves_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustvit.results.data_sets.hub_folder._card", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_store(store, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_without_duckdb_one_line_says_how_to_get_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name == "duckdb":
            raise ModuleNotFoundError(name="duckdb")
        return imported(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'robustvit\[duckdb\]'"):
        export_store(store, tmp_path / "made", "duckdb")
    assert not (tmp_path / "made").exists()


def test_a_store_without_rows_has_nothing_to_export(make_store: Make, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no row to export"):
        export_store(make_store({("m", "fog", "1"): None}), tmp_path / "made")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("form", ["hf", "IOException", "TransactionException"])
@pytest.mark.parametrize("place", ["made", "new/made"])
def test_a_full_disk_is_one_line_and_nothing_is_left(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FULL if form == "hf" else getattr(duckdb, form)(f'Could not write file "x": {FULL.strerror}')

    duckdb = pytest.importorskip("duckdb")
    monkeypatch.setattr(*((pq, "ParquetWriter") if form == "hf" else (duckdb, "connect")), fail)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(StoreFull, match=r"^no room left to write .*made\. Free some, then run the same command again\.$"):
        export_store(store, tmp_path / place, "hf" if form == "hf" else "duckdb")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", ["hf", "duckdb"])
def test_a_place_below_a_file_is_refused_with_the_option_that_names_it(store: Store, tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreFull, match=r"Give another place with --to\.$"):
        export_store(store, tmp_path / "file" / "made", form)


def test_a_place_is_inside_a_store_where_links_lead_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.path)
    with pytest.raises(UsageError, match="is inside the store"):
        export_store(store, tmp_path / "link" / "made")
    export_store(store, store.path / ".." / "made")
