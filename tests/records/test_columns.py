"""Rows that no run writes are not believed, whatever digest and checksums say: columns, types, nulls, ranges, samples that occur twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robustvit.errors import StoreDamaged
from robustvit.records.columns import FIELDS, schema_fault, value_fault
from robustvit.records.records import of_frame, read, table
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.spec import digest

DESCRIPTION = {"scenario": "fog", "weights": "a", "seed": 0}
CELL = digest(DESCRIPTION)
Columns = Callable[..., dict[str, Any]]
Make = Callable[..., Store]


@pytest.fixture
def rows(answered: Columns) -> pa.Table:
    return table(answered([True, False, True]))


def of(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def test_rows_that_a_run_writes_have_no_fault(rows: pa.Table) -> None:
    assert (schema_fault(rows.schema), value_fault(rows), value_fault(rows.slice(0, 0))) == ("", "", "")


@pytest.mark.parametrize("name", ["sample", "label", "pred", "confidence", "nll", "brier", "rank", "margin", "top5"])
def test_a_column_of_another_type_is_a_fault(rows: pa.Table, name: str) -> None:
    assert f"column '{name}' holds binary, not {FIELDS[name]}" in schema_fault(of(rows, name, pa.array([b"a"] * 3)).schema)


@pytest.mark.parametrize(("name", "kind"), [("value_x", pa.int32()), ("pred_real", pa.float32()), ("rank_real", pa.int64())])
def test_columns_of_ones_own_have_types_too(rows: pa.Table, name: str, kind: pa.DataType) -> None:
    assert f"'{name}' holds {kind}" in schema_fault(rows.append_column(name, pa.array([1, 2, 3], kind)).schema)
    assert schema_fault(rows.append_column("of_a_later_version", pa.array([1, 2, 3], kind)).schema) == ""


@pytest.mark.parametrize(("lacks", "said"), [("sample", "no column 'sample'"), ("label", "none 'label'"), ("pred", "none 'pred'")])
def test_a_column_that_others_mean_nothing_without_is_missed(rows: pa.Table, lacks: str, said: str) -> None:
    assert said in schema_fault(rows.drop_columns([lacks]).schema)


def test_two_columns_of_one_name_are_a_fault(rows: pa.Table) -> None:
    assert "one name" in schema_fault(rows.append_column("label", rows["label"]).schema)


@pytest.mark.parametrize("name", ["sample", "label", "confidence", "top5"])
def test_a_null_is_a_fault(rows: pa.Table, name: str) -> None:
    odd = pa.array([*rows[name].to_pylist()[:2], None], FIELDS[name])
    assert value_fault(of(rows, name, odd)) == f"its column '{name}' has 1 values that are null"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("label", -2, "the value -2; it holds -1 or more"),
        ("pred", -7, "the value -7"),
        ("rank", 0, "the value 0; it holds 1 or more"),
        ("confidence", 7, "the value 7; it holds 0 to 1"),
        ("confidence", -0.5, "the value -0.5"),
        ("confidence", np.nan, "the value NaN"),
        ("nll", -1, "it holds 0 or more"),
        ("nll", np.nan, "the value NaN"),
        ("brier", 2.5, "it holds 0 to 2"),
        ("margin", np.nan, "the value NaN; it holds numbers"),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_a_fault(rows: pa.Table, name: str, value: float, said: str) -> None:
    values = rows[name].to_numpy().copy()
    values[1] = value
    assert said in value_fault(of(rows, name, pa.array(values)))


@pytest.mark.parametrize(
    ("name", "value"), [("label", -1), ("pred", -1), ("nll", np.inf), ("margin", -np.inf), ("brier", 2), ("confidence", 1)]
)
def test_the_ends_of_what_a_column_holds_are_none(rows: pa.Table, name: str, value: float) -> None:
    values = rows[name].to_numpy().copy()
    values[1] = value
    assert value_fault(of(rows, name, pa.array(values))) == ""


def test_a_measurement_may_be_nan_and_negative(rows: pa.Table) -> None:
    assert value_fault(rows.append_column("value_x", pa.array([np.nan, -5, np.inf], pa.float32()))) == ""


def test_a_sample_with_two_rows_is_named(rows: pa.Table) -> None:
    assert value_fault(of(rows, "sample", pa.array(["b", "a", "a"]))) == "the sample 'a' has 2 rows"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", create=True)
    made.declare(CELL, DESCRIPTION)
    return made


def test_a_file_with_the_right_digest_and_absurd_values_is_damaged_and_a_run_sets_it_aside(store: Store, rows: pa.Table) -> None:
    store.write(CELL, 0, 0, of(rows, "confidence", pa.array([0.5, 0.5, 7], pa.float32())), {})
    with pytest.raises(StoreDamaged, match=r"000000-000-003-.*holds no Records: its column 'confidence' has the value 7"):
        read(store.files(CELL))
    assert store.damaged(CELL) == [store.files(CELL)[0].path]


def test_a_sample_in_two_files_of_a_cell_is_named(store: Store, rows: pa.Table) -> None:
    store.write(CELL, 0, 0, rows, {})
    store.write(CELL, 1, 0, rows, {})
    with pytest.raises(StoreDamaged, match=rf"{CELL}: in the files of this cell the sample 's00000' has 2 rows"):
        read(store.files(CELL))


def test_a_file_of_more_bytes_than_rows_take_is_not_unpacked(store: Store, rows: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(CELL, 0, 0, rows, {})
    monkeypatch.setattr("robustvit.records.records_file._MOST", 100)
    with pytest.raises(StoreDamaged, match="more than the 100 that are read"):
        read(store.files(CELL))


STRANGE = [
    ("0*.parquet", os.mkfifo, "is a pipe"), ("0*.parquet", Path.mkdir, "is a folder"),
    ("cell.json", os.mkfifo, "is a pipe"), ("cell.json", Path.mkdir, "is a folder"), ("cell.json", None, "cannot be read: No such file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "made", "said"), STRANGE)
def test_a_cell_with_what_is_no_file_has_failed_and_says_so(
    make_store: Make, answered: Columns, name: str, made: Callable[[Path], object] | None, said: str
) -> None:
    store = make_store({("m", "fog", "1"): answered([True, False])})
    (path,) = store.path.glob(f"cells/*/{name}")
    path.unlink()
    if made is not None:
        made(path)
    (row,) = leaderboard(store.path).to_dict("records")
    assert row["status"] == "failed"
    assert f"{path} {said}" in row["reason"]


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("cells", "asked", -5), ("cells", "seed", 2**70), ("cells", "link", -1), ("cells", "data_fingerprint", "other"),
        ("data", "classes", -10), ("data", "columns", ["a"]), ("models", "macs", 2**70), ("suite", "metrics", []),
        ("suite", "metrics", [5]), ("suite", "version", -1),
    ],
)  # fmt: skip
def test_a_manifest_with_a_number_that_counts_nothing_is_none(
    make_store: Make, answered: Columns, place: str, key: str, value: object
) -> None:
    store = make_store({("m", "fog", "1"): answered([True, False])})
    (path,) = (store.path / "runs").glob("*.json")
    page = json.loads(path.read_text())
    del page["checksum"]
    path.write_text(json.dumps(page))
    assert len(store.manifests()) == 1
    inner = page[place] if place == "suite" else page[place][0] if place == "cells" else next(iter(page[place].values()))
    inner[key] = value
    path.write_text(json.dumps(page))
    assert store.manifests() == []


def test_a_measurement_may_be_a_list_of_one_number_for_each_block() -> None:
    made = table({"sample": ["a", "b"], "value_tokens": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "value_x": np.array([1.0, 2.0])})
    assert made.schema.field("value_tokens").type == pa.list_(pa.float32(), 3)
    assert made.schema.field("value_x").type == pa.float32()
    assert schema_fault(made.schema) == value_fault(made) == ""
    again = of_frame(made.to_pandas())
    assert again.equals(made)


def test_counts_are_lists_of_whole_numbers_from_0() -> None:
    made = table({"sample": ["a", "b"], "counts_inter": np.array([[1, 2], [0, 7]])})
    assert made.schema.field("counts_inter").type == pa.list_(pa.int32(), 2)
    assert schema_fault(made.schema) == value_fault(made) == ""
    assert "has the value -1; it holds 0 or more" in value_fault(table({"sample": ["a"], "counts_inter": np.array([[1, -1]])}))


@pytest.mark.parametrize(("name", "kind"), [
    ("value_x", pa.list_(pa.int32(), 2)), ("value_x", pa.list_(pa.float32())), ("counts_x", pa.int32()),
    ("counts_x", pa.list_(pa.float32(), 2)),
    ("pred_real", pa.list_(pa.int32(), 2)), ("label", pa.list_(pa.int32(), 2)),
])  # fmt: skip
def test_lists_of_another_type_are_damage(name, kind) -> None:
    assert f"its column '{name}' holds {kind}" in schema_fault(pa.schema([("sample", pa.string()), (name, kind)]))


def test_a_list_with_nothing_in_a_place_is_damage() -> None:
    values = pa.array([[1.0, None], [2.0, 3.0]], pa.list_(pa.float32(), 2))
    assert "column 'value_x' has 1 values that are null" in value_fault(pa.table({"sample": ["a", "b"], "value_x": values}))
