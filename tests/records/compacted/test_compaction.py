"""Finished cells in one file each: the same rows to the bit, whatever the columns, the files they came in, and the moment of a kill."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from faults.fault_layer import FaultLayer

from robustvit.errors import StoreDamaged, StoreFull
from robustvit.records.compacted.compacted_file import CompactedFile
from robustvit.records.compacted.compaction import CompactedCell, compact
from robustvit.records.records import read, rows, table
from robustvit.records.records_file import RecordsFile
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
SHARD = 512


def every_column(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Columns of every kind that Records have, some of them constant, some with NaN and infinities."""
    floats = random.random(count).astype(np.float32)
    odd = np.where(random.random(count) < 0.2, random.choice([np.nan, np.inf, -np.inf, -0.0], count), floats).astype(np.float32)
    return {
        "sample": [f"val/n{i:05d}/{i}" for i in random.permutation(count)], "label": random.integers(-1, 9, count),
        "pred": random.integers(0, 9, count), "confidence": floats, "nll": floats * 7, "margin": np.where(np.isnan(odd), 0, odd),
        "brier": floats, "rank": random.integers(1, 10, count), "top5": random.integers(-1, 9, (count, 5)),
        "linf": np.full(count, 4 / 255), "attacked": random.random(count) < 0.5, "felled_by": random.choice(["", "pgd", "apgd-ce"], count),
        "steps": random.integers(-1, 9, count), "queries": random.integers(0, 1 << 30, count), "gradient": ["ok"] * count,
        "votes": random.integers(0, 99, count), "pred_real": random.integers(0, 9, count), "value_x": odd,
        "value_tokens": random.random((count, 3)), "counts_inter": random.integers(0, 9, (count, 2)), "fact_texture": ["a"] * count,
        "fact_real": [[1] * int(n) for n in random.integers(0, 3, count)], "logits": random.normal(size=(count, 4)),
    }  # fmt: skip


def taken(columns: dict[str, Any], places: slice) -> dict[str, Any]:
    return {name: values[places] for name, values in columns.items()}


def pieces(random: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Runs of rows that cover all, none of which crosses a shard; some overlap."""
    found = []
    for shard in range(-(-count // SHARD)):
        end = min(count, (shard + 1) * SHARD)
        cuts = sorted({shard * SHARD, end, *random.integers(shard * SHARD, end, random.integers(0, 4)).tolist()})
        found += list(itertools.pairwise(cuts))
        if len(cuts) > 2:
            found.append((cuts[0], cuts[-2]))
    return [found[place] for place in random.permutation(len(found))]


def bits(frame: pd.DataFrame) -> list[tuple[str, str, bytes]]:
    """Every column of a frame, its type and its bits."""
    return [
        (str(name), str(column.dtype), column.to_numpy().tobytes() if column.dtype.kind in "biuf" else repr([
            one.tobytes() if isinstance(one, np.ndarray) else one for one in column
        ]).encode())
        for name, column in frame.items()
    ]  # fmt: skip


def frames(store: Store) -> dict[str, list[tuple[str, str, bytes]]]:
    return {cell: bits(read(store.files(cell))) for cell in store.cells()}


def rewritten(store: Store, columns: dict[str, Any], places: Sequence[tuple[int, int]], notes: Callable[[int], dict[str, Any]]) -> str:
    """The only cell of a store with other rows."""
    (cell,) = store.cells()
    for file in store.files(cell):
        file.path.unlink()
    for number, (begin, end) in enumerate(places):
        store.write(cell, begin // SHARD, begin % SHARD, table(taken(columns, slice(begin, end))), notes(number))
    return cell


def states(found: Sequence[CompactedCell]) -> list[str]:
    return [one.state for one in found]


@pytest.mark.parametrize("seed", range(12))
def test_rows_of_all_kinds_come_back_to_the_bit(make_store: Make, seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.choice([1, 7, 300, 512, 513, 1100, 1536]))
    columns = every_column(random, count)
    dropped = random.choice([name for name in columns if name not in ("sample", "label", "pred")], 8, replace=False)
    columns = {name: values for name, values in columns.items() if seed == 0 or name not in dropped}
    store = make_store({("m", "fog", "1"): taken(columns, slice(0, 1))}, asked=count)
    cell = rewritten(store, columns, pieces(random, count), lambda number: {"seconds": number / 7, "version": "1"})
    plain = table(columns).to_pandas()
    before = sorted((file.shard, file.start, file.stop, file.about()["seconds"]) for file in store.files(cell))
    small = read(store.files(cell))
    assert bits(small) == bits(plain)
    assert states(compact(store)) == ["compacted"]
    again = Store(store.path)
    assert bits(read(again.files(cell))) == bits(plain)
    assert not [path for path in (store.path / "cells" / cell).iterdir() if RecordsFile.at(path, cell)]
    held = {(file.shard, file.start, file.stop, file.about()["seconds"]) for file in again.files(cell)}
    assert held <= set(before)
    assert rows(again.files(cell)) == count
    some = [str(name) for name in random.permutation(list(columns))[:4]]
    assert bits(read(again.files(cell), some)) == bits(plain[some])
    for file in again.files(cell):
        begin = file.shard * SHARD + file.start
        assert bits(file.read().to_pandas()) == bits(plain.iloc[begin : begin + file.stop - file.start].reset_index(drop=True))
    assert states(compact(again)) == ["already"]


def two_cells(make_store: Make, answered: Columns, name: str = "results") -> Store:
    """A store of one cell with two files and an earlier overlap, and one with one file."""
    right = np.random.default_rng(0).random(40) < 0.5
    columns = answered(right)
    store = make_store({("m", "fog", "1"): columns, ("m", "fog", "2"): answered(~right)}, name=name)
    cell = store.cells()[0]
    (file,) = store.files(cell)
    whole = file.read()
    file.path.unlink()
    for begin, end in ((0, 25), (25, 40), (0, 10)):
        store.write(cell, 0, begin, whole.slice(begin, end - begin), {"seconds": 1.5})
    return store


def test_the_board_is_the_same_to_the_byte(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    before = leaderboard(store.path).to_csv()
    assert states(compact(store)) == ["compacted"] * 2
    assert leaderboard(store.path).to_csv() == before
    assert len(list((store.path / "ids").iterdir())) == 1


def disturbed(store: Path, kind: str, at: int) -> tuple[int, list[str]]:
    """The exit code of a process that compacts a store, and is disturbed at an operation; the operations where it was not."""
    told = store.with_name("operations")
    child = os.fork()
    if not child:
        code = 70
        try:
            layer = FaultLayer(str(store), kind, at)
            layer.install()
            compact(Store(store))
            layer.root = "/nowhere"
            told.write_text("\n".join(layer.seen))
            code = 0
        except StoreFull:
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.read_text().splitlines() if told.exists() else []


@pytest.mark.parametrize(
    ("kind", "every"),
    [("kill", 5), ("full", 11), pytest.param("kill", 1, marks=pytest.mark.long), pytest.param("full", 1, marks=pytest.mark.long)],
)
def test_at_every_operation_on_a_file_a_kill_or_a_full_disk_loses_nothing(
    make_store: Make, answered: Columns, kind: str, every: int
) -> None:
    store = two_cells(make_store, answered)
    before, shown = frames(store), leaderboard(store.path).to_csv()
    shutil.copytree(store.path, store.path.with_name("whole"))
    code, operations = disturbed(store.path.with_name("whole"), "", 0)
    assert (code, len(operations) > 40) == (0, True)
    for at in range(every // 2 + 1, len(operations) + 1, every):
        place = store.path.with_name("trial")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(store.path, place)
        code, _ = disturbed(place, kind, at)
        assert code == (-9 if kind == "kill" else 1) or "leases" in operations[at - 1], operations[at - 1]
        assert frames(Store(place)) == before, operations[at - 1]
        assert set(states(compact(Store(place)))) <= {"compacted", "already"}
        assert frames(Store(place)) == before, operations[at - 1]
        held = {path.relative_to(place) for path in place.rglob("*") if path.is_file() and "leases" not in path.parts}
        whole = store.path.with_name("whole")
        assert held == {path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and "leases" not in path.parts}, at
    assert leaderboard(place).to_csv() == shown


def test_a_cell_is_compacted_again_as_it_grows(make_store: Make, answered: Columns) -> None:
    columns = answered(np.arange(700) % 3 > 0)
    store = make_store({("m", "fog", "1"): taken(columns, slice(0, 1))}, asked=600)
    cell = rewritten(store, columns, [(0, 512), (512, 600)], lambda number: {"seconds": number})
    assert states(compact(store)) == ["compacted"]
    store.write(cell, 1, 88, table(taken(columns, slice(600, 700))), {"seconds": 2})
    assert (store.reached(cell, 0), store.reached(cell, 1)) == (512, 188)
    assert bits(read(store.files(cell))) == bits(table(columns).to_pandas())
    old = store.files(cell)
    assert states(compact(store)) == ["compacted"]
    (file,) = {file.path for file in store.files(cell)}
    assert file.name.startswith("rows-0000700-00003-")
    assert [one.about()["seconds"] for one in store.files(cell)] == [0, 1, 2]
    assert bits(read(old)) == bits(table(columns).to_pandas())  # listed before


def test_rows_that_were_listed_before_they_were_compacted_are_read_where_they_are_now(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    before, listed = frames(store), {cell: store.files(cell) for cell in store.cells()}
    compact(Store(store.path))
    assert {cell: bits(read(files)) for cell, files in listed.items()} == before
    assert [file.about()["seconds"] for files in listed.values() for file in files] == [1.5] * 4
    assert all("top5" in file.columns() for files in listed.values() for file in files)


def test_what_is_unfinished_computed_now_or_damaged_stays_as_it_is(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", str(n)): answered([True] * 6) for n in range(1, 5)}, asked=6)
    fog = [cell.cell for cell in store.manifests()[0].cells]
    (short,) = store.files(fog[0])
    store.write(fog[0], 0, 0, short.read().slice(0, 5), {})
    short.path.unlink()
    (broken,) = store.files(fog[1])
    broken.path.write_bytes(broken.path.read_bytes()[:-1])
    kept = {path: path.read_bytes() for path in store.path.rglob("0*.parquet")}
    with store.lease(fog[2], 0):
        found = {one.cell: one for one in compact(store)}
    assert [found[cell].state for cell in fog] == ["unfinished", "damaged", "computed now", "compacted"]
    assert found[fog[0]].reason == "5 of 6 rows"
    assert str(broken.path) in found[fog[1]].reason
    assert all(path.read_bytes() == content for path, content in kept.items() if fog[3] not in str(path))


def test_files_of_other_columns_and_of_other_rows_stay_as_they_are(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", str(n)): answered([True] * 6) for n in (1, 2)}, asked=6)
    one, other = (cell.cell for cell in store.manifests()[0].cells)
    (file,) = store.files(one)
    rest = file.read().slice(3)
    store.write(one, 0, 0, file.read().slice(0, 3), {})
    store.write(one, 0, 3, rest.append_column("value_x", pa.array([1, 2, 3], pa.float32())), {})
    file.path.unlink()
    store.write(other, 0, 0, table({**answered([True] * 6), "nll": [9.0] * 6}).slice(0, 2), {})
    before = frames(store)
    found = {one.cell: one for one in compact(store)}
    assert "do not have the same columns" in found[one].reason
    assert "their columns 'nll' differ" in found[other].reason
    assert {one.state for one in found.values()} == {"left"}
    assert frames(store) == before


def test_an_earlier_robustvit_is_to_refuse_a_compacted_store_and_a_copy_of_one(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    assert json.loads((store.path / "store.json").read_text()) == {"schema": 2}
    compact(store)
    assert json.loads((store.path / "store.json").read_text()) == {"schema": 3}
    (store.path / "store.json").write_text('{"schema": 2}')  # of another store, copied over it
    Store(store.path, create=True)
    assert json.loads((store.path / "store.json").read_text()) == {"schema": 3}
    (store.path / "store.json").write_text("{")
    Store(store.path, create=True)
    assert json.loads((store.path / "store.json").read_text()) == {"schema": 3}


def test_without_its_table_of_samples_a_store_says_so_and_loses_nothing(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    before = frames(store)
    compact(store)
    (path,) = (store.path / "ids").iterdir()
    content = path.read_bytes()
    for change in (path.unlink, lambda: path.write_bytes(content[:-9]), lambda: path.write_bytes(b"")):
        change()
        again = Store(store.path)
        (reason,) = set(leaderboard(store.path)["reason"])
        assert str(path) in reason
        for cell in again.cells():
            with pytest.raises(StoreDamaged, match=rf"{path}.*Restore it from a copy"):
                again.set_aside(cell)
        assert states(compact(again)) == ["damaged"] * 2
        path.write_bytes(content)
    assert frames(Store(store.path)) == before


@pytest.mark.parametrize("pattern", ["rows-*", "lists-*", "../../ids/*"])
def test_no_flipped_bit_is_believed(make_store: Make, answered: Columns, pattern: str) -> None:
    store = make_store({("m", "fog", "1"): answered([True, False] * 9)})
    compact(store)
    (cell,) = store.cells()
    (path,) = (store.path / "cells" / cell).glob(pattern)
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(StoreDamaged):
            read(Store(store.path).files(cell))
    path.write_bytes(content)
    assert len(read(Store(store.path).files(cell))) == 18


def test_a_file_of_another_cell_is_not_believed(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", str(n)): answered([True] * 6) for n in (1, 2)})
    compact(store)
    one, other = store.cells()
    (file,) = (store.path / "cells" / one).glob("rows-*")
    (place,) = (store.path / "cells" / other).glob("rows-*")
    place.unlink()
    shutil.copy(file, place.with_name(file.name))
    with pytest.raises(StoreDamaged, match="was copied or renamed: it holds rows of cell"):
        read(Store(store.path).files(other))


def test_a_compacted_file_that_is_damaged_is_set_aside_and_its_rows_are_computed_anew(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    compact(store)
    cell = store.cells()[0]
    (path,) = {file.path for file in store.files(cell)}
    path.write_bytes(path.read_bytes()[:-1])
    assert Store(store.path).set_aside(cell) == [path.with_suffix(".damaged")]
    assert Store(store.path).files(cell) == []


def test_lost_images_cost_the_rows_that_they_were_beside_and_no_others(make_store: Make, answered: Columns) -> None:
    columns = answered([True] * 30, attacked=[True] * 30)
    store = make_store({("m", "pgd", "4/255"): taken(columns, slice(0, 1))}, asked=30)
    kept = {"rows": np.zeros(1, np.int32), "adversarial": np.zeros((1, 3, 2, 2), np.float32), "clean": np.zeros((1, 2, 2, 3), np.uint8)}
    (cell,) = store.cells()
    checksums = [
        store.keep_images(cell, 0, begin, {**kept, "rows": kept["rows"] + begin}, begin + 10, {"cell": cell, "earlier": ""})
        for begin in (0, 10, 20)
    ]
    rewritten(store, columns, [(0, 10), (10, 20), (20, 30)], lambda number: {"images": checksums[number], "seconds": number})
    assert states(compact(store)) == ["compacted"]
    assert [store.images(file).rows() for file in store.files(cell)] == [[0], [10], [20]]
    assert store.damaged(cell, images=True) == []
    store.images(store.files(cell)[1]).path.write_bytes(b"?")
    assert store.damaged(cell) == []
    (aside,) = store.set_aside(cell, images=True)
    assert aside.name.startswith("rows-")
    assert [(file.start, file.stop, file.about()["seconds"]) for file in store.files(cell)] == [(0, 10, 0), (20, 30, 2)]
    assert bits(store.files(cell)[1].read().to_pandas()) == bits(table(taken(columns, slice(20, 30))).to_pandas())


def test_cells_of_the_same_samples_share_a_table_and_labels_that_differ_stay_with_the_cell(make_store: Make, answered: Columns) -> None:
    ids = [f"s{i}" for i in range(8)]
    cells = {
        ("m", "fog", "1"): answered([True] * 8, ids=ids), ("m", "fog", "2"): {**answered([True] * 8, ids=ids), "label": range(8)},
        ("m", "fog", "3"): answered([True] * 5, ids=ids[:5]), ("m", "fog", "4"): answered([True] * 8, ids=ids[::-1]),
        ("m", "columns", ""): {"sample": ids, "value_x": np.arange(8.0)},
    }  # fmt: skip
    store = make_store(cells)
    before = frames(store)
    found = compact(store)
    assert set(states(found)) <= {"compacted", "unfinished"}
    assert frames(Store(store.path)) == before
    assert len(store.tables.names()) == 2


def test_foreign_files_stay(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    foreign = [store.path / "cells" / store.cells()[0] / name for name in ("notes.txt", "rows-1.parquet", "lists.parquet")]
    for path in (*foreign, store.path / "mine"):
        path.write_text("mine")
    assert states(compact(store)) == ["compacted"] * 2
    assert all(path.read_text() == "mine" for path in foreign)
    assert CompactedFile.at(foreign[1], store.cells()[0]) is None


def test_a_compacted_file_is_as_old_as_the_rows_that_it_holds(make_store: Make, answered: Columns) -> None:
    store = two_cells(make_store, answered)
    for path in store.path.rglob("0*.parquet"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    compact(store)
    assert {path.stat().st_mtime for path in store.path.rglob("rows-*")} == {1_600_000_000}
