"""The status of stores in every state."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import robustvit as rv
from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.status.store_status import RunStatus
from robustvit.records.status.worker_files import EXPIRY, write_worker
from robustvit.records.store import Store

FACTS = {"host": "h", "process": 7, "device": "cpu", "computes": "a · fog", "rows": 12, "seconds": 60.0}
Make, Answered = Callable[..., Store], Callable[..., Any]


def aged(store: Store, seconds: float) -> None:
    """Makes the rows of a store so many seconds older than now."""
    then = rv.status(store).now - seconds
    for path in (store.path / "cells").glob("*/*.parquet"):
        os.utime(path, (then, then))


def test_a_run_that_nobody_computes_has_stopped(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6), ("b → soft", "fog", "1"): answered([True] * 4)}, asked=6)
    aged(store, 1000)
    found = rv.status(store.path)
    assert isinstance(found, RunStatus)
    assert (found.state, found.suite, found.models, found.over) == ("stopped", "made-up", ("a", "b"), False)
    assert (found.complete, found.cells, found.rows, found.asked) == (1, 2, 10, 12)
    assert (found.pace, found.workers, found.failures) == (None, (), ())
    assert found.now - (found.newest or 0.0) == pytest.approx(1000, abs=5)


def test_a_worker_that_is_seen_makes_it_go_on_until_it_expires(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 4)}, asked=6)
    aged(store, 1000)
    write_worker(store.path, "0" * 32, FACTS)
    found = rv.status(store)
    assert (found.state, [one.host for one in found.workers]) == ("going on", ["h"])
    then = found.now - EXPIRY - 5
    os.utime(store.path / "workers" / f"{'0' * 32}.json", (then, then))
    assert (rv.status(store).state, rv.status(store).workers) == ("stopped", ())


def test_rows_that_come_make_it_go_on_though_no_worker_is_seen(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "fog", str(place)): answered([True] * 6) for place in range(3)} | {("a", "snow", "1"): None})
    now = rv.status(store).now
    for place, path in enumerate((store.path / "cells").glob("*/*.parquet")):
        os.utime(path, (now - 10 * place, now - 10 * place))
    assert rv.status(store).state == "going on"


def test_failed_complete_and_undefined_cells(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6), ("a", "fog", "1"): None, ("a", "snow", "1"): None})
    (manifest,) = store.manifests()
    undefined = [replace(cell, undefined="no") if cell.scenario == "snow" else cell for cell in manifest.cells]
    store.write_manifest(replace(manifest, cells=undefined))
    assert rv.status(store).undefined == 1
    store.fail(manifest.cells[1].cell, "no fog")
    found = rv.status(store)
    assert (found.state, found.over, found.cells, found.complete) == ("failed", True, 2, 1)
    assert found.failures == (("fog 1 of a on digits", "no fog"),)
    store.write_manifest(replace(manifest, cells=undefined[:1]))
    assert (rv.status(store).state, rv.status(store).over) == ("complete", True)


def test_suites_and_models_choose(make_store: Make, answered: Answered) -> None:
    rows = answered([True] * 6)
    make_store({("a", "clean", ""): rows, ("b", "clean", ""): None}, suite="first")
    store = make_store({("a", "fog", "1"): rows}, suite="second", started="2026-02-01T00:00:00+00:00")
    aged(store, 1000)
    assert (rv.status(store).suite, rv.status(store).runs) == ("second", 2)
    assert rv.status(store, suite="first", models=["b"]).rows == 0
    with pytest.raises(StoreError, match="Did you mean 'first'"):
        rv.status(store, suite="frist")


def test_no_store_no_run_and_damage(make_store: Make, answered: Answered, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*absent"):
        rv.status(tmp_path / "absent")
    assert rv.status(Store(tmp_path / "new", create=True)).state == "not begun"
    store = make_store({("a", "clean", ""): answered([True] * 6)})
    (store.path / "runs" / "x.json").write_text("{")
    assert "x.json" in rv.status(store).damage
    for path in (store.path / "runs").iterdir():
        path.write_text("{")
    with pytest.raises(StoreDamaged):
        rv.status(store)


def test_nothing_is_left_in_the_store(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 6)})
    before = [(path, path.stat().st_mtime_ns) for path in sorted(store.path.rglob("*"))]
    rv.status(store.path)
    assert [(path, path.stat().st_mtime_ns) for path in sorted(store.path.rglob("*"))] == before
