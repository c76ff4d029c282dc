"""Stores that are hostile: markers, manifests, cells and tables that no run wrote."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile.calls import BIG


def write(root: Path, whole: Path) -> None:
    """Writes hostile stores beside each other; `whole` is a good one, of which most are copies."""
    markers = {
        "empty": "",
        "schema-text": '{"schema": "2"}',
        "schema-big": f'{{"schema": {BIG}}}',
        "schema-list": "[]",
        "too-new": '{"schema": 99}',
        "schema-deep": "[" * 100_000,
        "schema-true": '{"schema": true}',
        "schema-float": '{"schema": 2.5}',
    }
    for name, text in markers.items():
        place = root / f"store-{name}"
        place.mkdir()
        (place / "store.json").write_text(text)
    for name in ("zero", "fifo", "huge"):
        (root / f"store-{name}").mkdir()
    (root / "store-zero/store.json").symlink_to("/dev/zero")
    os.mkfifo(root / "store-fifo/store.json")
    with (root / "store-huge/store.json").open("wb") as file:
        file.truncate(1 << 40)
    shutil.copytree(whole, root / "store")


MANIFEST_KEYS = ("id", "suite", "models", "data", "cells", "command")


def manifests(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Hostile texts of a manifest, by name: each key missing, of another type, or absurd."""
    for key in page:
        yield f"without-{key}", json.dumps({name: value for name, value in page.items() if name != key})
        for kind, value in {"null": None, "number": 5, "text": "abc", "list": [1], "mapping": {"a": 1}}.items():
            yield f"{key}-{kind}", json.dumps({**page, key: value})
    first = page["cells"][0]
    for key in first:
        yield f"cell-without-{key}", json.dumps({**page, "cells": [{name: value for name, value in first.items() if name != key}]})
    absurd = {
        "seed": 2**70,
        "asked": -5,
        "severity": {"a": 1},
        "cell": "../../x",
        "model": ["a"],
        "scenario": 5,
        "data_fingerprint": 1.5,
        "link": "x",
    }
    for key, value in absurd.items():
        yield f"cell-{key}-absurd", json.dumps({**page, "cells": [{**first, key: value}]})
    for key in page["suite"]:
        yield f"suite-without-{key}", json.dumps({**page, "suite": {name: value for name, value in page["suite"].items() if name != key}})
    yield "suite-metrics-text", json.dumps({**page, "suite": {**page["suite"], "metrics": ["absurd", 5, None, {"name": "x"}]}})
    yield (
        "suite-metrics-unknown",
        json.dumps({**page, "suite": {**page["suite"], "metrics": [{"name": "absurd", "params": {}, "kind": "metric", "version": 1}]}}),
    )
    yield "big", f'{{"id": {BIG}}}'
    yield "deep", '{"a":' * 100_000
    yield "nan", json.dumps({**page, "limit": float("nan")})
    yield "empty", ""
    yield "bom", "\ufeff" + json.dumps(page)
    yield "twice", '{"id": "a", "id": "b"}'


def tables(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Hostile tables of Records, by name: each column missing, of another type, or absurd."""
    for name in rows.column_names:
        yield f"without-{name}", rows.drop_columns([name])
        yield f"{name}-text", _with(rows, name, pa.array(["abc"] * len(rows)))
        yield f"{name}-null", _with(rows, name, pa.nulls(len(rows), pa.string()))
    huge = pa.array(np.full(len(rows), 2**40))
    for name in ("label", "pred", "rank"):
        yield f"{name}-huge", _with(rows, name, huge)
        yield f"{name}-negative", _with(rows, name, pa.array(np.full(len(rows), -7)))
    for name in ("confidence", "nll", "brier", "margin"):
        yield f"{name}-nan", _with(rows, name, pa.array(np.full(len(rows), np.nan, np.float32)))
    yield "sample-same", _with(rows, "sample", pa.array(["a"] * len(rows)))
    yield "none", rows.slice(0, 0)
    yield "other", pa.table({"a": [1]})


def _with(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def replaced_manifest(whole: Path, place: Path, text: str) -> Path:
    """A copy of a store with another manifest."""
    shutil.copytree(whole, place)
    for file in (place / "runs").glob("*.json"):
        file.write_text(text, "utf-8")
    return place


def replaced_table(whole: Path, place: Path, table: pa.Table) -> Path:
    """A copy of a store in which a file of Records of earlier versions, whose name has no digest, holds another table."""
    shutil.copytree(whole, place)
    file = next(iter(sorted((place / "cells").glob("*/0*.parquet"))))
    meta = pq.read_schema(file).metadata
    file.unlink()
    pq.write_table(table.replace_schema_metadata(meta), file.with_name("-".join(file.stem.split("-")[:3]) + ".parquet"))
    return place
