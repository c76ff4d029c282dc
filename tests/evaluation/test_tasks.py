"""The tasks of a cell are exactly the rows that the store lacks, cut at shards and at what a kind of scenario writes at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustvit.evaluation.plan import shards
from robustvit.evaluation.tasks import tasks_of
from robustvit.records.records import table
from robustvit.records.store import Store
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import parse
from robustvit.spec.view import View


def cell(node: Any) -> Cell:
    (spec,) = parse(node)
    return Cell(parse("m")[0], "w", parse("d")[0], "f", View(), bind(scenario_entry(spec.name), spec))


def spans(node: Any, asked: int, store: Store) -> list[tuple[int, int, int]]:
    """(shard, begin, stop) of each task of a cell, for a model of tile 8."""
    part: Any = SimpleNamespace(
        label="m", model=SimpleNamespace(tile=8), samples=SimpleNamespace(asked=asked, data=SimpleNamespace(fingerprint="f"))
    )
    return [(task.shard, task.begin, task.stop) for task in tasks_of(part, cell(node), store)]


def held(store: Store, node: Any, shard: int, start: int, stop: int) -> None:
    store.write(cell(node).id, shard, start, table({"sample": [str(i) for i in range(start, stop)], "label": [0] * (stop - start)}), {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s", create=True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(1, [(0, 1)]), (511, [(0, 511)]), (512, [(0, 512)]), (513, [(0, 512), (1, 1)]), (1025, [(0, 512), (1, 512), (2, 1)])],
)
def test_shards_are_512_rows_and_the_last_what_is_left(asked: int, expected: list[tuple[int, int]]) -> None:
    assert shards(asked) == expected


def test_a_new_cell_has_a_task_for_each_shard(store: Store) -> None:
    assert spans("clean", 1025, store) == [(0, 0, 512), (1, 0, 512), (2, 0, 1)]


def test_a_task_begins_where_the_store_ends_and_no_tail_is_left_out(store: Store) -> None:
    for start, stop in ((0, 100), (100, 511)):
        held(store, "clean", 0, start, stop)
    held(store, "clean", 1, 0, 512)
    assert spans("clean", 1025, store) == [(0, 511, 512), (2, 0, 1)]
    assert spans("clean", 500, store) == []


def test_an_attack_has_tasks_of_what_it_writes_at_once_that_cover_every_row(store: Store) -> None:
    attack = {"pgd": {"eps": "1/255"}}
    found = spans(attack, 513, store)
    assert len(found) > 2
    rows = [(shard, row) for shard, begin, stop in found for row in range(begin, stop)]
    assert rows == [(0, row) for row in range(512)] + [(1, 0)]
    held(store, attack, 0, 0, 300)
    assert spans(attack, 513, store)[0][:2] == (0, 300)
