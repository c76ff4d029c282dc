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

from robustvit.records.disk import content_digest


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
    numbers = {"link": -1, "links": -5, "asked": -5}
    for key, value in numbers.items():
        yield f"cell-{key}-negative", json.dumps({**page, "cells": [{**first, key: value}]})
    for key, value in {"classes": -10, "n": -1, "columns": ["a"], "class_names": 5}.items():
        yield f"data-{key}-absurd", json.dumps({**page, "data": {name: {**facts, key: value} for name, facts in page["data"].items()}})
    for key, value in {"parameters": -5, "macs": -1, "macs ": 2**70, "notes": [1]}.items():
        cards = {name: {**card, key.strip(): value} for name, card in page["models"].items()}
        yield f"model-{key}-absurd", json.dumps({**page, "models": cards})
    yield "data-gone", json.dumps({**page, "data": {}})
    yield "models-gone", json.dumps({**page, "models": {}})
    yield "cells-gone", json.dumps({**page, "cells": []})
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
        yield f"{name}-text", _with(rows, name, pa.array([b"abc" if name == "sample" else "abc"] * len(rows)))
        yield f"{name}-null", _with(rows, name, pa.nulls(len(rows), rows.schema.field(name).type))
        yield f"{name}-nothing", _with(rows, name, pa.nulls(len(rows)))
        yield f"{name}-twice", rows.append_column(name, rows[name])
    for name in ("label", "pred", "rank"):
        yield f"{name}-huge", _with(rows, name, pa.array(np.full(len(rows), 2**40)))
        yield f"{name}-negative", _with(rows, name, _one_odd(rows, name, -7))
    for name, odd in {"confidence": (np.nan, 7, -1), "nll": (np.nan, -0.5), "brier": (np.nan, 2.5, -1), "margin": (np.nan,)}.items():
        for value in odd:
            yield f"{name}-{value}", _with(rows, name, _one_odd(rows, name, value))
    yield "rank-zero", _with(rows, "rank", _one_odd(rows, "rank", 0))
    yield "sample-same", _with(rows, "sample", pa.array(["a"] * len(rows)))
    yield "sample-one-null", _with(rows, "sample", pa.array([None, *rows["sample"].to_pylist()[1:]]))
    yield "none", rows.slice(0, 0)
    yield "more", pa.concat_tables([rows, rows])
    yield "other", pa.table({"a": [1]})


def _one_odd(rows: pa.Table, name: str, value: float) -> pa.Array:
    """The column with one value that is odd."""
    values = rows[name].to_numpy().copy()
    values[-1] = value
    return pa.array(values)


def _with(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def raw_files(content: bytes, rows: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Hostile contents of a file of Records, by name: headers that lie, and rows without end. content: of a good one."""
    length = int.from_bytes(content[-8:-4], "little")
    yield "empty", b""
    yield "text", b"hello"
    yield "magic", b"PAR1"
    yield "short", content[: len(content) // 2]
    yield "footer-huge", content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1"
    yield "footer-negative", content[:-8] + b"\xff\xff\xff\xff" + b"PAR1"
    yield "footer-zero", content[:-8] + bytes(4) + b"PAR1"
    yield "footer-one-less", content[:-8] + (length - 1).to_bytes(4, "little") + b"PAR1"
    yield "footer-noise", content[: -8 - length] + bytes(range(256)) * (length // 256) + b"\xff" * (length % 256) + content[-8:]
    yield "encrypted", content[:-4] + b"PARE"
    yield "pages-gone", content[:4] + bytes(len(content) - 12 - length) + content[-8 - length :]
    yield "many-rows", _parquet(rows.take(np.arange(len(rows)).repeat(100_000)))
    yield "long-text", _parquet(_with(rows, "sample", _long_ids(len(rows))))
    groups = _parquet(pa.concat_tables([rows] * 3), row_group_size=len(rows))
    yield "rows-of-groups", groups.replace(_number_of_rows(3 * len(rows)), _number_of_rows(len(rows)))


def _long_ids(n: int) -> pa.Array:
    return pa.array([chr(97 + number) * (40 << 20) for number in range(n)], pa.string())


def _number_of_rows(n: int) -> bytes:
    """The field of the footer that says how many rows a file has, as Thrift's compact protocol writes it after the list of columns."""
    return b"\x16" + bytes([2 * n]) + b"\x19"


def _parquet(rows: pa.Table, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", **how)
    return sink.getvalue().to_pybytes()


def replaced_manifest(whole: Path, place: Path, text: str) -> Path:
    """A copy of a store with another manifest."""
    shutil.copytree(whole, place)
    for file in (place / "runs").glob("*.json"):
        file.write_text(text, "utf-8")
    return place


def replaced_table(whole: Path, place: Path, table: pa.Table, *, named: bool = False) -> Path:
    """A copy of a store in which a file of Records holds another table.

    named: under a name with the right digest; else as earlier versions called it, whose names had none.
    """
    meta = pq.read_schema(_first(whole)).metadata
    return replaced_file(whole, place, _parquet(table.replace_schema_metadata(meta)), named=named)


def replaced_file(whole: Path, place: Path, content: bytes, *, named: bool = False) -> Path:
    """As `replaced_table`, with any content."""
    shutil.copytree(whole, place)
    file = _first(place)
    file.unlink()
    about = [*file.stem.split("-")[:3], *([content_digest(content)] if named else [])]
    file.with_name("-".join(about) + ".parquet").write_bytes(content)
    return place


def stranger(whole: Path, place: Path, name: str, kind: str) -> Path:
    """A copy of a store in which what has the name of a file, from its folder, is a pipe, a device without end, a folder or a loop.

    name: a pattern; of several files, the first.
    """
    shutil.copytree(whole, place)
    file = next(iter(sorted(place.glob(name))))
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "zero" else file.name)
    return place


def _first(store: Path) -> Path:
    return next(iter(sorted((store / "cells").glob("*/0*.parquet"))))
