"""The entry of a model and suite for a board: what it holds, that no byte of it can be changed unseen, and which Records no board takes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from robustvit.errors import RobustvitError, StoreDamaged, StoreError, StoreFull, UsageError
from robustvit.records import records
from robustvit.records.compacted.compaction import compact
from robustvit.records.disk import content_digest
from robustvit.records.store import Store
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.submission.entry import read_submission, submission_of, write_submission
from robustvit.results.submission.recomputed import confirm
from robustvit.results.submission.row_digests import cell_digest

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
METRICS = ["top1", "robust_accuracy"]


@pytest.fixture
def cells(answered: Columns) -> dict[Any, Any]:
    found: dict[Any, Any] = {("a", "clean", ""): answered([True] * 9 + [False])}
    found |= {("a", "fog", str(level)): answered([True] * (10 - level) + [False] * level) for level in (1, 2, 3)}
    return found | {("a", "pgd", "4/255"): answered([True] * 2 + [False] * 8, attacked=[True] * 9 + [False])}


@pytest.fixture
def store(make_store: Make, cells: dict[Any, Any]) -> Store:
    return make_store(cells, metrics=METRICS)


@pytest.fixture
def entry(store: Store, tmp_path: Path) -> Path:
    """The folder of the store's entry."""
    write_submission(submission_of(store), tmp_path / "entry")
    return tmp_path / "entry"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(store: Store, error: type[RobustvitError] = StoreError, **chosen: str) -> str:
    """The one line that a store is refused with; nothing in it has changed."""
    before = listing(store.path)
    with pytest.raises(error) as told:
        submission_of(Store(store.path), **chosen)
    assert listing(store.path) == before
    assert "\n" not in str(told.value)
    return str(told.value)


def test_an_entry_has_the_numbers_with_what_they_are_of(store: Store) -> None:
    made = submission_of(store)
    facts = made.facts
    assert (facts["model"], facts["suite"]["name"], facts["suite"]["version"], facts["cells"]) == ("a", "made-up", 1, 5)
    assert facts["data"] == [{"label": "digits", "fingerprint": "f", "n": 10, "asked": 10, "whole": True}]
    assert facts["commands"] == ["robustvit run --model demo"]
    numbers = {one["number"]: one for one in facts["headlines"]}
    assert (numbers["clean top-1"]["value"], numbers["clean top-1"]["n"]) == (90.0, 10)
    assert (numbers["clean top-1"]["low"], numbers["clean top-1"]["high"]) == (pytest.approx(59.585), pytest.approx(98.2124, abs=1e-3))
    assert numbers["pgd 4/255 accuracy"]["value"] == 20.0
    assert facts["told"]["gradients"].startswith("unchecked: one step")
    assert len(made.rows()) == len(build_leaderboard(store).rows)


def test_there_is_a_digest_of_the_rows_of_each_cell(store: Store) -> None:
    assert submission_of(store).facts["records"] == {cell: cell_digest(store, cell, 10) for cell in store.cells()}


@pytest.mark.parametrize("compacted_first", [True, False])
def test_an_entry_is_of_the_rows_however_they_are_packed(make_store: Make, cells: dict[Any, Any], compacted_first: bool) -> None:
    one, other = (make_store(cells, metrics=METRICS, name=name) for name in ("one", "other"))
    compact(one)
    given, made = (one, other) if compacted_first else (other, one)
    confirm(submission_of(given), made)


def test_an_entry_comes_back_as_it_was_written_and_is_what_the_store_gives(store: Store, entry: Path) -> None:
    found = read_submission(entry)
    assert found == submission_of(store)
    confirm(found, store)
    write_submission(found, entry)  # in the place of itself


def test_samples_that_were_left_out_are_told(make_store: Make, cells: dict[Any, Any], answered: Columns) -> None:
    few = make_store({("a", "clean", ""): answered([True] * 4)}, asked=4)
    assert submission_of(few).facts["data"] == [{"label": "digits", "fingerprint": "f", "n": 10, "asked": 4, "whole": False}]


@pytest.mark.parametrize("name", ["board.csv", "entry.json"])
def test_a_flipped_bit_of_an_entry_is_found(entry: Path, name: str) -> None:
    content = bytearray((entry / name).read_bytes())
    place = content.index(b"20" if name == "board.csv" else b"20.0")  # the accuracy under attack
    content[place] ^= 1
    (entry / name).write_bytes(content)
    with pytest.raises(StoreDamaged, match=re.escape(name)):
        read_submission(entry)


def forged(entry: Path, change: Callable[[str], str], facts: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Changes the numbers of an entry, and makes its checksums anew."""
    text = change((entry / "board.csv").read_text())
    (entry / "board.csv").write_text(text)
    page = json.loads((entry / "entry.json").read_text()) | {"board": hashlib.sha256(text.encode()).hexdigest()}
    del page["checksum"]
    facts(page)
    page["checksum"] = content_digest(json.dumps(page, sort_keys=True, separators=(",", ":")).encode())
    (entry / "entry.json").write_text(json.dumps(page))


def better(text: str) -> str:
    """The table with 90 % under attack."""
    changed = text.replace("robust_accuracy,20,", "robust_accuracy,90,")
    assert changed != text
    return changed


def test_a_number_changed_with_its_checksum_differs_from_the_headline(entry: Path) -> None:
    forged(entry, better)
    with pytest.raises(StoreDamaged, match=r"headline number 'pgd 4/255 accuracy' of a is not that of board\.csv"):
        read_submission(entry)


def test_numbers_changed_everywhere_are_not_those_of_the_store(store: Store, entry: Path) -> None:
    def change(page: dict[str, Any]) -> None:
        (one,) = [one for one in page["headlines"] if one["number"] == "pgd 4/255 accuracy"]
        one["value"] = 90.0

    forged(entry, better, change)
    found = read_submission(entry)
    with pytest.raises(StoreError, match=r"a on made-up is not what its store gives: line \d+ of board\.csv is another, 'headlines' is"):
        confirm(found, store)


@pytest.mark.parametrize("packed", [True, False])
def test_a_cell_with_other_rows_is_named(store: Store, entry: Path, packed: bool) -> None:
    """Rows that no number of the board is made of, in a file that is whole."""
    cell = store.cells()[0]
    (file,) = store.files(cell)
    rows, about = file.read(), file.about()
    top5 = pa.array([[0, 1, -1, -1, -1]] * 9 + [[1, 0, -1, -1, -1]], rows["top5"].type)
    file.path.unlink()
    store.write(cell, 0, 0, rows.set_column(rows.column_names.index("top5"), "top5", top5), about)
    if packed:
        compact(store)
    with pytest.raises(StoreError, match=f"is not what its store gives: cell {cell} has other rows.$"):
        confirm(read_submission(entry), store)


def test_cells_that_only_one_has_are_named(store: Store, entry: Path) -> None:
    found = read_submission(entry)
    first, *others = found.facts["records"].items()
    for digests, told in (
        (dict(others), f"{first[0]} is not in the entry"),
        ({**dict([first, *others]), "x": ""}, "x is not in the store"),
    ):
        with pytest.raises(StoreError, match=f"cell {told}"):
            confirm(replace(found, facts=found.facts | {"records": digests}), store)


def test_an_entry_of_the_first_format_is_read_and_not_confirmed(store: Store, entry: Path) -> None:
    forged(entry, lambda text: text, lambda page: page.update(format=1, files=page.pop("records")))
    found = read_submission(entry)
    with pytest.raises(StoreError, match="is of format 1, with digests of files and not of rows"):
        confirm(found, store)


def test_facts_that_were_changed_are_named(store: Store, entry: Path) -> None:
    found = read_submission(entry)
    other = replace(found, facts=found.facts | {"card": found.facts["card"] | {"parameters": 1}})
    with pytest.raises(StoreError, match="'card' is another"):
        confirm(other, store)


def test_a_flipped_bit_of_the_records_is_named(store: Store) -> None:
    (file,) = store.files(store.cells()[0])
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    assert re.search(rf"\(1 fault\): damaged: cells/{store.cells()[0]}/{file.path.name} ", refused(store, StoreDamaged))


def test_a_missing_cell_is_named(make_store: Make, cells: dict[Any, Any]) -> None:
    lacking = make_store(cells | {("a", "fog", "2"): None}, metrics=METRICS)
    assert "(1 of 5 cells lack rows): fog 2: " in refused(lacking)


def test_missing_rows_are_named(make_store: Make, cells: dict[Any, Any]) -> None:
    assert "(5 of 5 cells lack rows): clean: " in refused(make_store(cells, metrics=METRICS, asked=11))


def test_a_foreign_file_is_named_and_stays(store: Store) -> None:
    (store.path / "cells" / store.cells()[0] / "notes.txt").write_text("mine")
    assert f"(1 fault): foreign: cells/{store.cells()[0]}/notes.txt is no file of a store" in refused(store)


def test_faults_with_one_reason_are_told_once(store: Store) -> None:
    for name in ("a", "b"):
        (store.path / name).write_text("mine")
    assert "(2 faults): foreign: a is no file of a store; nothing reads it (and 1 more)." in refused(store)


def test_a_lost_table_of_samples_is_one_line(store: Store) -> None:
    compact(store)
    (table,) = (store.path / "ids").glob("*.parquet")
    table.unlink()
    told = refused(Store(store.path), StoreDamaged)
    assert table.stem in told
    assert "(1 fault)" in told
    assert "5 compacted files need it" in told


def test_versions_of_robustvit_that_are_mixed_are_named(make_store: Make, cells: dict[Any, Any], answered: Columns) -> None:
    mixed = make_store(cells | {("a", "fog", "2"): None}, metrics=METRICS, asked=10)
    (cell,) = [one.cell for one in mixed.questions() if (one.scenario, one.severity) == ("fog", "2")]
    mixed.write(cell, 0, 0, records.table(answered([True] * 10)), {"seconds": 1.0, "environment": "abc", "version": "0.2.0"})
    assert "mixes versions of robustvit: 0.1.0 (4 cells), 0.2.0 (1 cells); a board has one." in refused(mixed)


def test_versions_of_a_suite_that_are_mixed_are_named(store: Store, make_store: Make, answered: Columns) -> None:
    other = make_store({("a", "frost", "1"): answered([True] * 10)}, started="2026-02-01T00:00:00+00:00", metrics=METRICS)
    (manifest,) = [one for one in other.manifests() if one.started.startswith("2026-02")]
    other.write_manifest(replace(manifest, suite=replace(manifest.suite, version=2)))
    assert "mixes versions of the suite: 1 (5 cells), 2 (1 cells); a board has one." in refused(other)


def test_one_of_several_models_and_suites_is_chosen(store: Store, make_store: Make, answered: Columns) -> None:
    several = make_store({("b", "clean", ""): answered([True] * 10)}, suite="other", started="2026-02-01T00:00:00+00:00")
    assert "has made-up, other; choose with --suite" in refused(several, UsageError)
    assert submission_of(several, suite="other").facts["model"] == "b"
    more = make_store({("c → soft", "clean", ""): answered([True] * 10)}, suite="other", started="2026-03-01T00:00:00+00:00")
    assert "has b, c; choose with --model" in refused(more, UsageError, suite="other")
    assert submission_of(more, suite="other", model="c").facts["model"] == "c"
    assert "no model 'bb'. Did you mean 'b'" in refused(more, StoreError, suite="other", model="bb")


def test_a_pipeline_has_the_name_of_the_model_with_its_transforms(make_store: Make, answered: Columns) -> None:
    made = submission_of(make_store({("a → soft", "clean", ""): answered([True] * 10)}))
    assert made.facts["model"] == "a+soft"
    assert {one["model"] for one in made.facts["headlines"]} == {"a · soft"}


def test_an_entry_replaces_nothing_but_an_entry(store: Store, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.tex; an entry is written into a new folder"):
        write_submission(submission_of(store), tmp_path / "full")
    assert listing(tmp_path / "full") == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("which", ["board.csv", "entry.json"])
def test_an_entry_that_cannot_be_written_leaves_no_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    made, replace_whole = submission_of(store), os.replace

    def fail(source: Path, target: Path) -> None:
        if target.name == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_whole(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreFull, match="No space left"):
        write_submission(made, tmp_path / "new" / "entry")
    assert not (tmp_path / "new" / "entry").exists()


def test_an_entry_is_not_written_into_a_store(store: Store) -> None:
    with pytest.raises(UsageError, match="is inside the store"):
        write_submission(submission_of(store), store.path / "entry")


def test_what_is_no_entry_is_refused(tmp_path: Path, entry: Path) -> None:
    with pytest.raises(UsageError, match=r"is no entry for a board: it has no entry\.json"):
        read_submission(tmp_path)
    forged(entry, lambda text: text, lambda page: page.update(format=9))
    with pytest.raises(StoreDamaged, match="has format 9; this robustvit reads 1 and 2"):
        read_submission(entry)
    forged(entry, lambda text: text, lambda page: page.pop("records") and page.update(format=2))
    with pytest.raises(StoreDamaged, match="is no entry for a board"):
        read_submission(entry)
