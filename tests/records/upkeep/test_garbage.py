"""What nothing names is removed, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.compacted.compaction import compact
from robustvit.records.records import read, table
from robustvit.records.store import Store
from robustvit.records.upkeep.file_kinds import files_below
from robustvit.records.upkeep.garbage import collect, garbage
from robustvit.records.upkeep.merging import merge
from robustvit.records.upkeep.verification import verify
from robustvit.spec.cell import artifact_id

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    """A compacted store with an artifact and images that are named."""
    columns = answered([True] * 6, attacked=[True] * 6)
    made = make_store({("m", "fog", "1"): answered([True] * 6), ("m", "pgd", "4/255"): columns})
    cell = next(one.cell for one in made.manifests()[0].cells if one.scenario == "pgd")
    kept = {"rows": np.zeros(1, np.int32), "adversarial": np.zeros((1, 3, 2, 2), np.float32), "clean": np.zeros((1, 2, 2, 3), np.uint8)}
    checksum = made.keep_images(cell, 0, 0, kept, 6, {"cell": cell, "earlier": ""})
    (file,) = made.files(cell)
    file.path.unlink()
    made.write(cell, 0, 0, table(columns), {"images": checksum})
    made.keep_artifact(artifact_id(made.describe(cell)), {"x": np.zeros(1)})
    compact(made)
    return made


def test_a_store_in_order_has_no_garbage(store: Store) -> None:
    assert garbage(store) == []


def test_what_nothing_names_goes_and_everything_else_stays(store: Store, answered: Columns) -> None:
    before = {path: path.read_bytes() for path in files_below(store.path)}
    cell = store.cells()[0]
    folder = store.path / "cells" / cell
    lost = {
        store.path / "cells" / ("b" * 20) / "cell.json": "no manifest", folder / f"lists-0000006-{'c' * 20}.parquet": "are gone",
        folder / f"000000-000-006-{'c' * 20}.safetensors": "are gone", folder / "000000-000-006.damaged": "set aside",
        folder / f"000000-000-006-{'c' * 20}.removed": "are gone", store.path / "ids" / f"{'d' * 20}.parquet": "no compacted cell",
        store.path / "learned" / f"{'e' * 20}-{'f' * 20}.safetensors": "fitted",
    }  # fmt: skip
    foreign = [store.path / "mine.txt", store.path / "cells" / "mine" / "rows.parquet", folder / "mine.safetensors"]
    for path in (*lost, *foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_text("1234")
    found = {store.path / one.place: one for one in garbage(store)}
    assert dict.fromkeys(lost, True) == {path: lost[path] in one.why for path, one in found.items()}
    assert {one.size for one in found.values()} == {4}
    assert all(path.exists() for path in lost)
    assert collect(store) == sorted(found.values())
    assert not any(path.exists() for path in lost)
    assert not (store.path / "cells" / ("b" * 20)).exists()
    assert all(path.read_text() == "1234" for path in foreign)
    assert {path: path.read_bytes() for path in before} == before
    assert garbage(store) == []


def test_images_that_an_attack_left_go_on_request_and_their_absence_is_no_fault(store: Store, tmp_path: Path) -> None:
    (images,) = store.path.rglob("0*.safetensors")
    rest = {path: path.read_bytes() for path in files_below(store.path) if path != images}
    (one,) = collect(store, images=True)
    assert (store.path / one.place, one.why.split(";")[0]) == (images, "images that an attack left")
    assert {path: path.read_bytes() for path in files_below(store.path)} == rest | {images.with_suffix(".removed"): b""}
    assert (garbage(store), garbage(store, images=True), verify(store).faults) == ([], [], [])
    merged = merge([store.path], tmp_path / "merged")
    assert merged.cells == 2
    assert verify(Store(tmp_path / "merged")).faults == []
    images.with_suffix(".removed").unlink()
    assert [fault.kind for fault in verify(store).faults] == ["damaged"]


def test_a_kill_before_the_images_are_gone_leaves_them_to_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (images,) = store.path.rglob("0*.safetensors")
    monkeypatch.setattr("robustvit.records.upkeep.garbage.remove", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        collect(store, images=True)
    monkeypatch.undo()
    assert (images.exists(), verify(store).faults) == (True, [])
    collect(store, images=True)
    assert (images.exists(), verify(store).faults) == (False, [])


def test_while_a_process_computes_or_where_a_manifest_is_damaged_nothing_is_removed(store: Store) -> None:
    (store.path / "learned" / f"{'e' * 20}-{'f' * 20}.safetensors").write_text("1234")
    with store.lease(store.cells()[0], 0), pytest.raises(StoreError, match="a process computes cells"):
        collect(store)
    (path,) = (store.path / "runs").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(StoreDamaged, match="so nothing is removed"):
        collect(store)
    path.unlink()
    with pytest.raises(StoreError, match="nothing tells which cells are to stay"):
        collect(store)
    path.write_bytes(content)
    assert len(collect(store)) == 1


def test_damaged_rows_may_name_what_is_beside_them(store: Store) -> None:
    path = next(store.path.rglob("rows-*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreDamaged, match="is not whole"):
        garbage(store)


def test_cells_are_swept_of_drafts(store: Store) -> None:
    draft = store.path / "cells" / store.cells()[0] / f".a.{'0' * 32}"
    draft.write_text("half")
    collect(store)
    assert not draft.exists()


def test_what_a_table_shorter_than_the_cell_leaves_is_garbage(make_store: Make, answered: Columns) -> None:
    columns = answered([True] * 9)
    store = make_store({("m", "fog", "1"): columns}, asked=4)
    (cell,) = store.cells()
    (file,) = store.files(cell)
    rest = file.read().slice(4)
    store.write(cell, 0, 0, file.read().slice(0, 4), {})
    file.path.unlink()
    compact(store)
    store.write(cell, 0, 4, rest, {})
    compact(store)
    assert [one.why for one in garbage(store)] == ["no compacted cell names it"]
    before = read(store.files(cell))
    collect(store)
    assert read(Store(store.path).files(cell)).equals(before)
    shutil.rmtree(store.path)
