from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from robustvit.errors import StoreError
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store
from robustvit.records.upkeep.sizes import FOOTERS, TABLE, store_size

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    return make_store({("m", "fog", "1"): answered([True] * 200), ("n", "snow", "1"): answered([False] * 100)})


@pytest.mark.parametrize("packed", [False, True])
def test_every_byte_of_rows_is_counted_once(store: Store, packed: bool) -> None:
    if packed:
        compact(store)
    size = store_size(store)
    held = [*store.path.glob("*/*.parquet"), *store.path.glob("cells/*/*.parquet")]
    assert size.size == sum(path.stat().st_size for path in held) == sum(one.size for one in size.columns)
    assert (size.cells, size.compacted, size.rows, size.files) == (2, 2 * packed, 300, 2 + 2 * packed)
    assert size.each == pytest.approx(size.size / 300)
    names = [one.name for one in size.columns]
    assert (names[-1], FOOTERS in names, TABLE in names, "label" in names) == ("top5", True, packed, not packed)
    top5 = next(one for one in size.columns if one.name == "top5")
    assert size.judged == pytest.approx(size.each - top5.size / 300)


def test_cells_are_chosen_by_model(store: Store) -> None:
    assert (store_size(store, models=["m"]).rows, store_size(store, models=["m"]).cells) == (200, 1)
    with pytest.raises(StoreError, match="has no model 'x'"):
        store_size(store, models=["x"])


def test_an_empty_store_has_sizes(make_store: Make) -> None:
    size = store_size(make_store({}))
    assert (size.rows, size.each, size.judged, size.columns) == (0, 0, 0, ())


def test_a_file_that_cannot_be_opened_is_named(store: Store) -> None:
    path = next(store.path.rglob("0*.parquet"))
    path.write_bytes(b"?")
    assert store_size(store).unreadable == (path.relative_to(store.path).as_posix(),)
    assert {one.name: one.size for one in store_size(store).columns}[FOOTERS] > 0
