"""The digest of a cell's rows: of their values and nothing else."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robustvit.records import records
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store
from robustvit.results.submission.row_digests import cell_digest

Make = Callable[..., Store]
COLUMNS: dict[str, Any] = {
    "sample": [f"s{i}" for i in range(600)], "label": [i % 7 for i in range(600)], "pred": [i % 5 for i in range(600)],
    "value_x": [float("nan"), *np.linspace(0, 1, 599)], "attacked": [i % 2 > 0 for i in range(600)],
    "top5": np.arange(3000).reshape(600, 5), "fact_real": [[1] * (i % 3) for i in range(600)],
}  # fmt: skip


def filled(make_store: Make, columns: dict[str, Any], cuts: tuple[int, ...] = (512,), name: str = "one") -> tuple[Store, str]:
    """A store of one cell, whose 600 rows are in files that begin at 0 and the cuts."""
    store = make_store({("m", "pgd", "4/255"): None}, name=name, asked=600)
    (cell,) = store.cells()
    for start, stop in zip((0, *cuts), (*cuts, 600), strict=True):
        rows = records.table({key: values[start:stop] for key, values in columns.items()})
        store.write(cell, start // 512, start % 512, rows, {"seconds": float(start)})
    return store, cell


def packed(kind: str, value: Any) -> bytes:
    if kind == "string":
        return value.encode()
    if kind.startswith("fixed"):
        return struct.pack("<5i", *value)
    return (
        b"".join(struct.pack("<i", one) for one in value)
        if kind.startswith("list")
        else struct.pack({"float": "<f", "bool": "?"}.get(kind, "<i"), value)
    )


def test_it_is_that_of_the_values_in_blocks_of_512_rows(make_store: Make) -> None:
    store, cell = filled(make_store, COLUMNS)
    kinds = {
        "attacked": "bool",
        "fact_real": "list<element: int32>",
        "label": "int32",
        "value_x": "float",
        "pred": "int32",
        "sample": "string",
    }
    kinds = dict(sorted({**kinds, "top5": "fixed_size_list<element: int32>[5]"}.items()))
    expected = hashlib.sha256(json.dumps([600, list(kinds.items()), None]).encode())
    for block in (slice(0, 512), slice(512, 600)):
        for name, kind in kinds.items():
            values = [one.tolist() if hasattr(one, "tolist") else one for one in COLUMNS[name][block]]
            expected.update(bytes([1]) * len(values))
            if kind == "string" or kind.startswith("list"):
                expected.update(b"".join(struct.pack("<i", len(one)) for one in values))
            inner = b"".join(packed(kind, one) for one in values)
            count = sum(map(len, values)) if "list" in kind else 0
            expected.update(bytes([1]) * count + inner)
    assert cell_digest(store, cell, 600) == expected.hexdigest()


@pytest.mark.parametrize("cuts", [(100, 512), (1, 2, 512, 599)])
def test_files_and_compaction_do_not_matter(make_store: Make, cuts: tuple[int, ...]) -> None:
    store, cell = filled(make_store, COLUMNS)
    other, same = filled(make_store, COLUMNS, cuts, "other")
    found = cell_digest(store, cell, 600)
    assert cell_digest(other, same, 600) == found
    compact(other)
    assert cell_digest(Store(other.path), same, 600) == found
    assert cell_digest(other, same, 599) != found


@pytest.mark.parametrize("name", COLUMNS)
def test_every_value_counts(make_store: Make, name: str) -> None:
    store, cell = filled(make_store, COLUMNS)
    values = list(COLUMNS[name])
    values[550], values[551] = values[551], values[550]
    other, _ = filled(make_store, {**COLUMNS, name: np.stack(values) if name == "top5" else values}, name="other")
    assert cell_digest(other, cell, 600) != cell_digest(store, cell, 600)


def test_a_failure_counts(make_store: Make) -> None:
    store, cell = filled(make_store, COLUMNS)
    found = cell_digest(store, cell, 600)
    store.fail(cell, "no room")
    assert cell_digest(store, cell, 600) != found
