import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from robustvit.errors import BadParameter, StoreDamaged, StoreError, StoreTooNew
from robustvit.records.manifest import Manifest
from robustvit.records.records import cover, read, rows, table
from robustvit.records.store import Store
from robustvit.spec.spec import Spec, canonical

CELL = "0" * 20


def some(start: int, stop: int) -> pa.Table:
    return table({"sample": [f"s{i}" for i in range(start, stop)], "label": list(range(start, stop)), "pred": [0] * (stop - start)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


def test_what_is_written_is_read_in_order(store: Store) -> None:
    store.write(CELL, 1, 0, some(512, 520), {"seconds": 1.5})
    store.write(CELL, 0, 0, some(0, 512), {})
    assert read(store.files(CELL))["label"].tolist() == list(range(520))
    assert store.files(CELL)[1].about()["seconds"] == 1.5


def test_pieces_grow_and_overlaps_are_taken_once(store: Store) -> None:
    for start, stop in ((0, 200), (200, 300), (0, 250), (250, 512), (100, 200)):
        store.write(CELL, 0, start, some(start, stop), {})
    assert read(store.files(CELL))["label"].tolist() == list(range(512))
    assert rows(store.files(CELL)) == 512


def test_rows_that_two_files_share_are_read_once(store: Store) -> None:
    store.write(CELL, 0, 0, some(0, 10), {})
    store.write(CELL, 0, 5, some(5, 15), {})
    assert read(store.files(CELL))["label"].tolist() == list(range(15))


def test_rows_beyond_a_gap_are_not_read(store: Store) -> None:
    store.write(CELL, 0, 0, some(0, 10), {})
    store.write(CELL, 0, 20, some(20, 30), {})
    assert rows(store.files(CELL)) == store.reached(CELL, 0) == 10
    assert [file.start for file in cover(store.files(CELL))] == [0]


def test_a_truncated_piece_is_named_and_can_be_set_aside(store: Store) -> None:
    store.write(CELL, 0, 0, some(0, 10), {})
    path = store.files(CELL)[0].path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreDamaged, match=r"000000-000-010-\w+\.parquet is not whole"):
        read(store.files(CELL))
    assert store.set_aside(CELL) == [path.with_suffix(".damaged")]
    assert store.files(CELL) == []


def test_a_piece_whose_rows_do_not_match_its_name_is_damaged(store: Store) -> None:
    store.write(CELL, 0, 0, some(0, 10), {})
    path = store.files(CELL)[0].path
    path.rename(path.with_name("000000-000-012.parquet"))
    with pytest.raises(StoreDamaged, match="holds 10 rows, its name promises 12"):
        read(store.files(CELL))


def test_a_newer_schema_is_refused(store: Store) -> None:
    (store.path / "store.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(StoreTooNew, match="schema 99"):
        Store(store.path)


def test_a_missing_store_and_a_folder_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Store(tmp_path / "none")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not a store"):
        Store(tmp_path, create=True)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"no column 'lable'\. Did you mean 'label'"):
        table({"lable": [1]})


def test_one_process_holds_a_lease_at_a_time(store: Store) -> None:
    with store.lease(CELL, 0) as mine:
        assert mine
        assert leased_elsewhere(store.path) == "False"
    assert leased_elsewhere(store.path) == "True"


def leased_elsewhere(path: Path) -> str:
    """What another process is told when it asks for the same lease."""
    code = f"from robustvit.records.store import Store\nwith Store({str(path)!r}).lease({CELL!r}, 0) as mine: print(mine)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_two_stores_merge_by_copying(store: Store, tmp_path: Path) -> None:
    import shutil

    other = Store(tmp_path / "other", create=True)
    store.write(CELL, 0, 0, some(0, 200), {})
    other.write(CELL, 0, 0, some(0, 512), {})
    other.write("1" * 20, 0, 0, some(0, 5), {})
    shutil.copytree(other.path, store.path, dirs_exist_ok=True)
    assert rows(store.files(CELL)) == 512
    assert store.cells() == [CELL, "1" * 20]


def test_no_draft_is_left_behind_and_none_is_read(store: Store) -> None:
    store.write(CELL, 0, 0, some(0, 10), {})
    folder = store.path / "cells" / CELL
    (folder / ".000000-010-020.parquet.abc").write_bytes(b"half")
    assert len(store.files(CELL)) == 1
    assert sum(path.name.startswith(".") for path in folder.iterdir()) == 1


def asked(store: Store, name: str, count: int, command: str) -> None:
    cell = {
        "cell": CELL, "weights": "w", "model": "demo", "data": "digits", "transforms": "", "scenario": "clean", "severity": "",
        "params": "",
        "seed": 0, "precision": "float32", "view": "", "model_view": "", "base": "digits",
        "kind": "corruption", "storage": "", "asked": count, "source": "original",
    }  # fmt: skip
    page = {
        "id": name,
        "started": name,
        "suite": {"name": "s", "version": 1, "metrics": [canonical(Spec("top1"))]},
        "cells": [{**cell, "data_fingerprint": "f"}],
        "command": command,
    }
    store.write_manifest(
        Manifest.of_json({**page, "models": {}, "data": {"f": {"label": "d", "name": "d", "base": "d", "classes": 2, "n": 9, "asked": 9}}})
    )


def test_a_question_keeps_the_command_of_the_run_that_asked_for_most(store: Store) -> None:
    for name, count, command in (("1", 40, "small"), ("2", 150, "large"), ("3", 90, "middle")):
        asked(store, name, count, command)
    (question,) = store.questions()
    assert (question.asked, question.command) == (150, "large")


def test_an_older_schema_is_refused_with_the_way_out(store: Store) -> None:
    (store.path / "store.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(StoreError, match=r"schema 1.*delete .*runs"):
        Store(store.path)


@pytest.mark.parametrize("page", [{"id": "a"}, {"id": "a", "suite": 3, "models": {}, "data": {}, "cells": [], "command": ""}])
def test_a_file_that_is_no_manifest_is_named_once_and_costs_its_own_entries(
    store: Store, page: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    asked(store, "1", 40, "small")
    (store.path / "runs" / "a.json").write_text(json.dumps(page))
    assert [manifest.id for manifest in (*store.manifests(), *store.manifests())] == ["1", "1"]
    assert ["a.json is no manifest" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("command", ["small", ""])
def test_a_manifest_comes_back_as_it_was_written(store: Store, command: str) -> None:
    asked(store, "1", 40, command)
    (manifest,) = store.manifests()
    store.write_manifest(manifest)
    assert store.manifests() == [manifest]


def test_an_artifact_that_is_not_whole_is_set_aside_and_another_copy_taken(store: Store) -> None:
    store.keep_artifact("a", {"x": np.arange(3.0)})
    (path,) = (store.path / "learned").iterdir()
    assert (store.artifact("a") or {})["x"].tolist() == [0, 1, 2]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.artifact("a") is None
    assert [one.suffix for one in (store.path / "learned").iterdir()] == [".damaged"]


def test_manifests_come_in_the_order_in_which_runs_began(store: Store) -> None:
    for name, started in (("b", "2026-01-01"), ("a", "2026-01-03"), ("c", "2026-01-02")):
        asked(store, name, 1, "")
        (known,) = [one for one in store.manifests() if one.id == name]
        store.write_manifest(replace(known, started=started))
    assert [one.id for one in store.manifests()] == ["b", "c", "a"]


def test_a_large_file_is_hashed_again_where_its_size_or_time_is_another(store: Store) -> None:
    path = store.path / "large"
    path.write_bytes(b"1234")
    store.verified.remember(path)
    assert store.verified.has(path)
    path.write_bytes(b"4321")
    os.utime(path, ns=(1, 1))
    assert not store.verified.has(path)
    store.verified.remember(path)
    path.write_bytes(b"43210")
    os.utime(path, ns=(1, 1))
    assert not store.verified.has(path)
