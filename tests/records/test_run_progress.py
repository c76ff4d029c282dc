"""How far a run is, told from its manifest and the names of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from robustvit.errors import StoreError
from robustvit.records.listing import list_store
from robustvit.records.run_progress import RunProgress, newest_run
from robustvit.records.store import Store

Make = Callable[..., Store]
LONG_AGO = 1_600_000_000


def progress(store: Store, **chosen: Any) -> RunProgress | None:
    return newest_run(store, list_store(store.path), store.manifests(), **chosen)


def states(store: Store, **chosen: Any) -> dict[str, tuple[str, int]]:
    found = progress(store, **chosen)
    assert found is not None
    return {f"{one.cell.model} {one.cell.scenario} {one.cell.severity}".strip(): (one.state, one.rows) for one in found.cells}


def dated(store: Store, seconds: float, scenario: str = "") -> None:
    """Gives the rows of a store, or of one scenario of it, a time."""
    for cell in store.manifests()[0].cells:
        for file in store.files(cell.cell) if scenario in ("", cell.scenario) else []:
            os.utime(file.path, (seconds, seconds))


def test_cells_are_complete_partial_failed_or_not_begun(make_store: Make, answered: Callable[..., Any]) -> None:
    cells = {
        ("a", "clean", ""): answered([True] * 6), ("a", "fog", "1"): answered([True] * 4), ("a", "fog", "2"): None,
        ("a", "snow", "1"): answered([True] * 2),
    }  # fmt: skip
    store = make_store(cells, asked=6)
    store.fail(next(cell.cell for cell in store.manifests()[0].cells if cell.scenario == "snow"), "no snow")
    assert states(store) == {
        "a clean": ("complete", 6), "a fog 1": ("partial", 4), "a fog 2": ("not begun", 0), "a snow 1": ("failed", 2),
    }  # fmt: skip
    found = progress(store)
    assert found is not None
    assert (found.rows, found.asked, found.over) == (12, 24, False)
    assert list(found.counts) == ["failed", "partial", "not begun", "complete"]
    assert [one.reason for one in found.cells if one.reason] == ["no snow"]


def test_a_failure_of_earlier_is_no_failure_of_a_complete_cell(make_store: Make, answered: Callable[..., Any]) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6)})
    store.fail(store.cells()[0], "once")
    assert states(store) == {"a clean": ("complete", 6)}


def test_rows_beyond_those_requested_and_gaps_do_not_count(make_store: Make, answered: Callable[..., Any]) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6)}, asked=4)
    assert states(store) == {"a clean": ("complete", 4)}
    (file,) = store.files(store.cells()[0])
    file.path.rename(file.path.with_name(file.path.name.replace("000000-000-006", "000000-002-008")))
    assert states(store) == {"a clean": ("not begun", 0)}


def test_undefined_cells_are_not_counted_and_cells_requested_twice_once(make_store: Make, answered: Callable[..., Any]) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6), ("a", "fog", "1"): None})
    (manifest,) = store.manifests()
    first, second = manifest.cells
    cells = [replace(first, scenario="once"), first, replace(second, undefined="it does not take it")]
    store.write_manifest(replace(manifest, cells=cells))
    found = progress(store)
    assert found is not None
    assert states(store) == {"a once": ("complete", 6), "a fog 1": ("undefined", 0)}
    assert (len(found.defined), found.asked, found.over) == (1, 6, True)


def test_the_newest_run_is_the_one_that_began_or_got_rows_last(make_store: Make, answered: Callable[..., Any]) -> None:
    rows = answered([True] * 6)
    make_store({("a", "clean", ""): rows}, suite="first", started="2020-01-01T00:00:00+00:00")
    store = make_store({("a", "fog", "1"): rows}, suite="second", started="2020-02-01T00:00:00+00:00")
    for manifest in store.manifests():
        for file in store.files(manifest.cells[0].cell):
            os.utime(file.path, (LONG_AGO, LONG_AGO))
    found = progress(store)
    assert found is not None
    assert (found.manifest.suite.name, found.newest, found.runs) == ("second", LONG_AGO, 2)
    dated(store, LONG_AGO + 60)  # of the first run, which goes on
    found = progress(store)
    assert found is not None
    assert (found.manifest.suite.name, found.newest) == ("first", LONG_AGO + 60)
    make_store({("b", "clean", ""): None}, suite="third", started="2020-12-01T00:00:00+00:00")
    assert states(store) == {"b clean": ("not begun", 0)}


def test_runs_and_cells_are_chosen_by_suite_and_model(make_store: Make, answered: Callable[..., Any]) -> None:
    rows = answered([True] * 6)
    make_store({("a", "clean", ""): rows, ("b", "clean", ""): rows}, suite="first")
    store = make_store({("a", "fog", "1"): rows}, suite="second", started="2026-02-01T00:00:00+00:00")
    assert states(store, suite="first") == {"a clean": ("complete", 6), "b clean": ("complete", 6)}
    assert states(store, models=["b"]) == {"b clean": ("complete", 6)}
    with pytest.raises(StoreError, match=r"has no suite .frist.\. Did you mean 'first'"):
        progress(store, suite="frist")


def test_a_store_without_runs_has_no_newest_one(make_store: Make) -> None:
    assert progress(make_store({})) is None


@pytest.mark.parametrize("text", ["", "yesterday", "9999-99-99", "0001-01-01T00:00:00"])
def test_a_start_that_is_no_time_is_long_ago(make_store: Make, text: str) -> None:
    store = make_store({("a", "clean", ""): None}, started=text)
    found = progress(store)
    assert found is not None
    assert found.started <= 0.0
