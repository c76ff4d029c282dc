"""Damage in a store is told by name and costs one cell; flipped bits change nothing in silence."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records import records_file
from robustvit.records.damage import ImagesRequired
from robustvit.records.images import removal_of
from robustvit.records.records import read, table
from robustvit.records.records_file import RecordsFile
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.spec import digest

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
DESCRIPTION = {"scenario": "fog", "weights": "a", "seed": 0}
CELL, OTHER = digest(DESCRIPTION), "1" * 20


def some(start: int = 0, stop: int = 10, shift: int = 0) -> pa.Table:
    columns = {"sample": [f"s{i}" for i in range(start, stop)], "label": list(range(start, stop)), "pred": [shift] * (stop - start)}
    return table(columns)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", create=True)
    made.declare(CELL, DESCRIPTION)
    made.write(CELL, 0, 0, some(), {"seconds": 1.5})
    return made


def flipped(content: bytes, step: int) -> Iterator[bytes]:
    """The content with one bit flipped: another bit of every so-many-th byte."""
    for place in range(0, len(content), step):
        wrong = bytearray(content)
        wrong[place] ^= 1 << (place // step % 8)
        yield bytes(wrong)


def silent(path: Path, step: int, look: Callable[[], Any]) -> list[int]:
    """Which flips of a file change what is read without a StoreDamaged. Any other exception ends the test."""
    whole, right = path.read_bytes(), look()
    changed = []
    for number, content in enumerate(flipped(whole, step)):
        path.write_bytes(content)
        with contextlib.suppress(StoreDamaged):
            found = look()
            same = found.equals(right) if isinstance(found, pd.DataFrame) else found == right
            changed += [] if same else [number]
    path.write_bytes(whole)
    return changed


def test_no_flipped_bit_of_a_piece_changes_its_rows_in_silence(store: Store) -> None:
    (file,) = store.files(CELL)
    assert not silent(file.path, 5, lambda: read(store.files(CELL)))
    assert not silent(file.path, 5, file.about)


def test_no_flipped_bit_of_a_description_is_believed(store: Store) -> None:
    assert not silent(store.path / "cells" / CELL / "cell.json", 1, lambda: store.describe(CELL))


def test_no_flipped_bit_of_a_gallery_is_believed(store: Store) -> None:
    store.write_gallery(CELL, pa.table({"sample": ["a"], "label": [1], "pred": [2], "image": [b"image"]}))
    (path,) = (store.path / "cells" / CELL).glob("gallery-*.parquet")
    assert not silent(path, 7, lambda: store.gallery(CELL))


def test_a_flipped_bit_of_a_failure_still_fails_and_names_the_file(store: Store) -> None:
    store.fail(CELL, "out of memory")
    path = store.path / "cells" / CELL / "failure.json"
    for content in flipped(path.read_bytes(), 1):
        path.write_bytes(content)
        reason = store.failure(CELL)
        assert reason == "out of memory" or (reason and "failure.json" in reason)


def test_a_flipped_bit_of_a_manifest_costs_its_entries_or_nothing(make_store: Make, answered: Columns) -> None:
    made = make_store({("m", "fog", "1"): answered([True, False])})
    (path,) = (made.path / "runs").glob("*.json")
    right = made.manifests()
    for content in flipped(path.read_bytes(), 3):
        path.write_bytes(content)
        assert Store(made.path).manifests() in ([], right)


def test_flipped_bits_of_a_piece_without_a_digest_raise_nothing_but_damage(store: Store) -> None:
    (file,) = store.files(CELL)
    path = file.path.rename(file.path.with_name("000000-000-010.parquet"))
    silent(path, 3, lambda: read(store.files(CELL)))
    assert read(store.files(CELL))["label"].tolist() == list(range(10))


def copied(store: Store) -> Path:
    (file,) = store.files(CELL)
    target = store.path / "cells" / OTHER / file.path.name
    target.parent.mkdir()
    return Path(shutil.copy(file.path, target))


@pytest.mark.parametrize("name", ["", "000000-000-010.parquet"])  # with a digest, and as earlier versions named it
def test_a_piece_copied_into_another_cell_is_not_believed(store: Store, name: str) -> None:
    path = copied(store)
    path = path.rename(path.with_name(name)) if name else path
    with pytest.raises(StoreDamaged, match=rf"{path.name} was copied or renamed: it holds rows of cell {CELL}"):
        read(store.files(OTHER))
    assert store.set_aside(OTHER) == [path.with_suffix(".damaged")]


def test_a_piece_renamed_to_another_shard_is_not_believed(store: Store) -> None:
    (file,) = store.files(CELL)
    file.path.rename(file.path.with_name(file.path.name.replace("000000-000-010", "000001-000-010")))
    with pytest.raises(StoreDamaged, match="rows of shard 0"):
        read(store.files(CELL))


def test_exchanged_pieces_fail_both_cells_and_no_other(make_store: Make, answered: Columns) -> None:
    made = make_store({("m", name, "1"): answered([True, False]) for name in ("fog", "snow", "frost")})
    first, second = (made.files(cell)[0].path for cell in made.cells()[:2])
    for path, other in ((first, second), (second, first)):
        path.rename(other.with_name(f"{path.name}.moved"))
    for path in (first, second):
        moved = next(path.parent.glob("*.moved"))
        moved.rename(moved.with_suffix(""))
    board = leaderboard(made)
    assert sorted(board["status"]) == ["complete", "failed", "failed"]
    assert board.loc[board["status"] == "failed", "reason"].str.contains("was copied or renamed").all()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"weights": "x"}'])
def test_a_damaged_description_fails_its_cell_and_no_other(make_store: Make, answered: Columns, content: str) -> None:
    made = make_store({("m", name, "1"): answered([True, False]) for name in ("fog", "snow")})
    path = made.path / "cells" / made.cells()[0] / "cell.json"
    path.write_text(content)
    board = leaderboard(made)
    assert sorted(board["status"]) == ["complete", "failed"]
    assert str(path) in board.loc[board["status"] == "failed", "reason"].item()


def test_a_damaged_description_is_written_anew(store: Store) -> None:
    path = store.path / "cells" / CELL / "cell.json"
    assert store.declare(CELL, DESCRIPTION) == []
    path.write_text(json.dumps({**DESCRIPTION, "seed": 1}))
    assert store.declare(CELL, DESCRIPTION) == [path]
    assert store.describe(CELL) == DESCRIPTION


def test_a_damaged_gallery_takes_the_first_rows_with_it_so_that_both_are_made_again(store: Store) -> None:
    store.write(CELL, 0, 10, some(10, 20), {})
    store.write_gallery(CELL, pa.table({"sample": ["a"], "label": [1], "pred": [2], "image": [b"image"]}))
    (path,) = (store.path / "cells" / CELL).glob("gallery-*.parquet")
    path.write_bytes(path.read_bytes()[:-3])
    first = store.files(CELL)[0].path
    assert store.set_aside(CELL) == [path.with_suffix(".damaged"), first.with_suffix(".damaged")]
    assert [file.start for file in store.files(CELL)] == [10]


def test_whole_cells_are_left_as_they_are(store: Store) -> None:
    store.write_gallery(CELL, pa.table({"sample": ["a"], "label": [1], "pred": [2], "image": [b"image"]}))
    assert store.set_aside(CELL) == []


def test_a_flipped_byte_in_a_page_is_told_and_set_aside_alike(tmp_path: Path) -> None:
    """What the board calls damaged is what a run computes anew, in files of earlier versions, too."""
    place = Store(tmp_path / "store", create=True)
    rows, meta = some(), json.dumps({"cell": CELL, "shard": 0, "start": 0, "stop": 10})
    path = place.path / "cells" / CELL / "000000-000-010.parquet"
    path.parent.mkdir(parents=True)
    described = rows.replace_schema_metadata({"robustvit": meta})
    pq.write_table(described, path, compression="none", use_dictionary=False, write_page_checksum=True)
    assert place.set_aside(CELL) == []
    path.write_bytes(path.read_bytes().replace(b"s5", b"t5"))
    with pytest.raises(StoreDamaged, match="is not whole"):
        read(place.files(CELL))
    assert place.set_aside(CELL) == [path.with_suffix(".damaged")]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened from now on."""
    opened: list[Path] = []
    source = RecordsFile._source
    monkeypatch.setattr(RecordsFile, "_source", lambda file: opened.append(file.path) or source(file))
    return opened


@pytest.mark.parametrize("old", [True, False])
def test_files_without_a_digest_and_large_ones_are_read_whole_once(store: Store, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = store.files(CELL)
    if old:
        file.path.rename(file.path.with_name("000000-000-010.parquet"))
    else:
        monkeypatch.setattr(records_file, "LARGE", 0)
    opened = reads(monkeypatch)
    assert store.set_aside(CELL) == []
    store.verified.save()
    again = Store(store.path)
    assert again.set_aside(CELL) == []
    assert len(opened) == 1
    path = again.files(CELL)[0].path
    path.write_bytes(path.read_bytes()[:-1])
    assert again.set_aside(CELL) == [path.with_suffix(".damaged")]


def test_a_large_file_that_was_just_written_is_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_file, "LARGE", 0)
    place = Store(tmp_path / "s", create=True)
    place.write(CELL, 0, 0, some(), {})
    monkeypatch.setattr(RecordsFile, "_refuse_changed", lambda file, found: pytest.fail("hashed"))
    assert len(read(place.files(CELL))) == 10


def test_a_damaged_list_of_verified_files_costs_one_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_file, "LARGE", 0)
    store.set_aside(CELL)
    store.verified.save()
    (store.path / "verified.json").write_text("{")
    assert Store(store.path).set_aside(CELL) == []


def images(value: float) -> dict[str, np.ndarray]:
    return {
        "rows": np.zeros(1, np.int32), "adversarial": np.full((1, 3, 2, 2), value, np.float32), "clean": np.zeros((1, 2, 2, 3), np.uint8)
    }  # fmt: skip


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"?")])
def test_rows_whose_kept_images_are_gone_are_set_aside_where_images_are_wanted(store: Store, harm: Callable[[Path], Any]) -> None:
    checksum = store.keep_images(OTHER, 0, 0, images(0.5), 1, {"cell": OTHER, "earlier": ""})
    store.write(OTHER, 0, 0, some(0, 1), {"images": checksum})
    (file,) = store.files(OTHER)
    assert store.set_aside(OTHER, images=True) == []
    assert store.images(file).read([0])[0].max() == 0.5
    harm(store.images(file).path)
    with pytest.raises(StoreError, match=r"with --keep adversarial"):
        store.images(file)
    assert store.set_aside(OTHER) == []
    assert store.set_aside(OTHER, images=True) == [file.path.with_suffix(".damaged")]


def test_images_that_were_removed_on_purpose_are_no_damage_unless_they_are_needed(store: Store) -> None:
    checksum = store.keep_images(OTHER, 0, 0, images(0.5), 1, {"cell": OTHER, "earlier": ""})
    store.write(OTHER, 0, 0, some(0, 1), {"images": checksum})
    (file,) = store.files(OTHER)
    path = store.images(file).path
    removal_of(path).touch()
    assert store.damaged(OTHER, ImagesRequired.YES) == []  # they are there all the same
    path.unlink()
    assert store.damaged(OTHER, ImagesRequired.UNLESS_REMOVED) == []
    with pytest.raises(StoreError, match=r"was removed \(store gc --images\)\. Run the same suite again with --keep adversarial"):
        store.images(file)
    assert store.damaged(OTHER, ImagesRequired.YES) == [file.path]
    store.keep_images(OTHER, 0, 0, images(0.5), 1, {"cell": OTHER, "earlier": ""})
    assert not removal_of(path).exists()
    path.unlink()
    assert store.damaged(OTHER, ImagesRequired.UNLESS_REMOVED) == [file.path]


def test_images_of_earlier_versions_are_found_by_their_old_name(store: Store) -> None:
    checksum = store.keep_images(OTHER, 0, 0, images(0.5), 1, {"cell": OTHER, "earlier": ""})
    store.write(OTHER, 0, 0, some(0, 1), {"images": checksum})
    (file,) = store.files(OTHER)
    path = store.images(file).path
    path.rename(path.with_name("000000-000-001.safetensors"))
    assert store.images(file).read([0])[0].max() == 0.5


def test_a_damaged_environment_is_reported_once_and_passed_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    name = store.write_environment({"torch": "2"})
    assert store.environment(name) == {"torch": "2"}
    (store.path / "environments" / f"{name}.json").write_text('{"torch": "3", "checksum": "0"}')
    assert [store.environment(name), store.environment(name)] == [{}, {}]
    assert [name in record.message for record in caplog.records] == [True]


def names(files: Iterable[RecordsFile]) -> list[str]:
    return [file.path.name for file in files]


def test_stores_whose_pieces_share_a_place_merge_and_each_row_is_read_once(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other", create=True)
    other.write(CELL, 0, 0, some(), {"seconds": 2.5})
    shutil.copytree(other.path, store.path, dirs_exist_ok=True)
    assert len(set(names(store.files(CELL)))) == 2
    assert read(store.files(CELL))["label"].tolist() == list(range(10))
