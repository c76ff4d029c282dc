"""What files a store has: whatever tables are made of changes the listing, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustvit.records.listing import Listing, list_store
from robustvit.records.store import Store


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., Any]) -> Store:
    return make_store({("a", "clean", ""): answered([True] * 6), ("a", "fog", "1"): answered([True] * 6)})


def test_a_store_that_does_not_change_has_one_listing(store: Store) -> None:
    listing = list_store(store.path)
    assert listing == list_store(store.path)
    assert set(listing.cells) == set(store.cells())
    assert [one.name for one in listing.marker] == ["store.json"]
    assert [one.name for one in listing.runs] == [f"{store.manifests()[0].id}.json"]


CHANGES: dict[str, Callable[[Store], object]] = {
    "a failure": lambda store: store.fail(store.cells()[0], "no"),
    "rows gone": lambda store: store.files(store.cells()[0])[0].path.unlink(),
    "other bytes": lambda store: store.files(store.cells()[0])[0].path.write_bytes(b"x"),
    "another time": lambda store: os.utime(store.files(store.cells()[0])[0].path, ns=(1, 1)),
    "a manifest gone": lambda store: next((store.path / "runs").iterdir()).unlink(),
    "an environment": lambda store: store.write_environment({"torch": "2"}),
    "no marker": lambda store: (store.path / "store.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_shown_is_another_listing(store: Store, change: str) -> None:
    before = list_store(store.path)
    CHANGES[change](store)
    assert list_store(store.path) != before


def test_drafts_leases_and_reports_are_no_change(store: Store) -> None:
    before, cell = list_store(store.path), store.cells()[0]
    (store.path / "cells" / cell / f".x.parquet.{'0' * 32}").write_bytes(b"half")
    (store.path / "report.html").write_text("x")
    with store.lease(cell, 0) as mine:
        assert mine
        assert list_store(store.path) == before


def test_what_is_no_store_or_has_a_file_in_the_place_of_a_folder_has_no_files(tmp_path: Path) -> None:
    assert list_store(tmp_path / "absent") == Listing()
    for name in ("cells", "runs"):
        (tmp_path / name).write_text("x")
    assert list_store(tmp_path) == Listing()
    (tmp_path / "cells").unlink()
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a").symlink_to(tmp_path / "absent")
    assert list_store(tmp_path) == Listing(cells={"a": ()})
