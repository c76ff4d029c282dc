"""Cells of several stores in one, compared where they meet: rows of one cell are the same in every store, or nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from robustvit.errors import StoreDamaged, StoreError, UsageError, few
from robustvit.records.compacted.cell_files import compacted_of, read_rows
from robustvit.records.compacted.difference import difference
from robustvit.records.disk import below, write_bytes
from robustvit.records.marker import is_there_yet, mark_compacted
from robustvit.records.records import cover, file_rows
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store
from robustvit.records.upkeep.file_kinds import files_below, kind_of
from robustvit.records.upkeep.places import refuse_inside_store
from robustvit.records.upkeep.verification import in_one_line, verify
from robustvit.spec.given import check_path
from robustvit.spec.sample_order import SHARD

_FIRST = ("marker", "samples", "artifact", "digests", "environment")  # what rows name comes before them
_BESIDE = ("description", "images", "removal", "gallery", "lists")
_LAST = ("rows", "failure", "manifest")
_OWN = ("marker", "verified", "lock", "worker", "set aside", "")


@dataclass
class Merged:
    """What a merge did. files, size: that came to the target, in bytes; cells: of which a file came, each once; present: files that were
    there already; unneeded: files of cells whose rows were there in other files.

    kept: of manifests and failures of which the target has another one under the same name; the target's stay.
    """

    cells: int = 0
    files: int = 0
    size: int = 0
    present: int = 0
    unneeded: int = 0
    kept: list[str] = field(default_factory=list)


class Conflict(NamedTuple):
    """A cell, or the images of a data set, that two stores hold differently. what: how."""

    what: str
    stores: tuple[str, str]
    how: str


def conflicts(stores: Sequence[Store]) -> list[Conflict]:
    """Where stores hold other bits of the same rows, or other images of the same data set. Raises StoreDamaged."""
    return [*_of_rows(stores), *_of_images(stores)]


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Copies what stores hold into another, which is made where there is none; killed, the same command goes on.

    Raises UsageError for a place inside a store, StoreDamaged where a source is not whole, StoreError where two hold other bits of the same
    rows: then nothing is written.
    """
    opened = [Store(path) for path in sources]
    if len({store.path.resolve() for store in opened}) < len(opened):
        raise UsageError("a store is named twice; each is merged once.")
    refuse_inside_store(check_path(into, "--into"), "--into")
    _refuse_something_else(into)
    for store in opened:
        _refuse_damaged(store)
    target = [Store(into)] if Store.is_at(into) else []
    known = {store.path.resolve() for store in opened}
    if found := conflicts([*(one for one in target if one.path.resolve() not in known), *opened]):
        told = [f"{one.what}: {one.how} in {one.stores[0]} and {one.stores[1]}" for one in found]
        raise StoreError(
            f"{len(found)} conflicts, and nothing is merged: {few(told)}. Keep such stores apart; `robustvit diff` compares them."
        )
    place = Store(into, create=True)
    sweep_store(place.path)
    done, came = Merged(), set[str]()
    for store in opened:
        if store.path.resolve() != place.path.resolve():
            _copy(store, place, done, came)
    done.cells = len(came)
    return done


def _refuse_something_else(into: Path) -> None:
    try:
        is_there_yet(into)
    except StoreError as error:
        raise StoreError(str(error).replace("--store", "--into")) from error


def _refuse_damaged(store: Store) -> None:
    wrong = [one for one in verify(store).faults if one.kind == "damaged"]
    if wrong:
        count = f"{len(wrong)} fault{'s' * (len(wrong) > 1)}"
        todo = "Then merge" if any(one.files for one in wrong) else "Run its suites again, then merge"
        raise StoreDamaged(f"the store {store.path} is not whole ({count}): {in_one_line(wrong)}. {todo}.")


def _copy(source: Store, target: Store, done: Merged, came: set[str]) -> None:
    found: dict[str, list[Path]] = {}
    for path in files_below(source.path):
        found.setdefault(kind_of(source.path, path), []).append(path)
    needed = {cell: _adds(source, target, cell) for cell in source.cells()}
    tables = {
        str(one.meta["samples"]) for cell in needed if needed[cell] for one in map(compacted_of, source.files(cell)) if one is not None
    }
    if tables:
        mark_compacted(target.path)
    for kind in (*_FIRST, *_BESIDE, *_LAST):
        for path in found.get(kind, ()) if kind not in _OWN else ():
            cell = path.parent.name
            of_rows = kind in ("rows", "lists", "images", "removal", "gallery", "failure") and not needed.get(cell, False)
            if of_rows or (kind == "samples" and path.stem not in tables):
                _pass_over(path, source, target, done)
            elif _place(path, source, target, kind, done) and path.parent.parent.name == "cells":
                came.add(cell)
    for cell in needed:
        sweep_cell(target.path, cell)


def _pass_over(path: Path, source: Store, target: Store, done: Merged) -> None:
    there = (target.path / path.relative_to(source.path)).exists()
    done.present += there
    done.unneeded += not there


def _place(path: Path, source: Store, target: Store, kind: str, done: Merged) -> bool:
    """Copies a file; whether it came."""
    parts = path.relative_to(source.path).parts
    place = below(target.path, *parts)
    if place.exists():
        same = place.read_bytes() == path.read_bytes()
        done.present += same
        done.kept += [] if same else [place.relative_to(target.path).as_posix()]
        return False
    if kind == "gallery" and any(place.parent.glob("gallery*.parquet")):
        done.unneeded += 1
        return False
    content = path.read_bytes()
    write_bytes(place, content)
    done.files += 1
    done.size += len(content)
    return True


def _adds(source: Store, target: Store, cell: str) -> bool:
    """Whether a store has rows or columns of a cell that another has not, or all of it."""
    held = _held(target, cell)
    if held is None:
        return True
    own = _held(source, cell)
    return own is not None and not (set(own.rows.column_names) <= set(held.rows.column_names) and set(own.places) <= set(held.places))


class _Held(NamedTuple):
    """The rows of a cell that a store holds, and their places in evaluation order."""

    rows: pa.Table
    places: np.ndarray


def _held(store: Store, cell: str) -> _Held | None:
    files = list(file_rows(cover(store.files(cell))))
    if not files:
        return None
    tables = [one.replace_schema_metadata(None) for one in read_rows(files, None)[0]]
    places = [file.shard * SHARD + np.arange(start, file.stop) for file, start in files]
    return _Held(pa.concat_tables(tables, promote_options="default"), np.concatenate(places))


def _of_rows(stores: Sequence[Store]) -> Iterator[Conflict]:
    holders: dict[str, list[Store]] = {}
    for store in stores:
        for cell in store.cells():
            holders.setdefault(cell, []).append(store)
    for cell, several in sorted(holders.items()):
        first = next((one for one in several if one.files(cell)), None)
        whole = _held(first, cell) if first is not None and len(several) > 1 else None
        for other in several:
            held = _held(other, cell) if whole is not None and other is not first else None
            if first is not None and whole is not None and held is not None and (how := _apart(whole, held)):
                yield Conflict(f"cell {cell}", (str(first.path), str(other.path)), how)


def _apart(one: _Held, other: _Held) -> str:
    """How rows that both hold differ, in columns that both have; "" where they do not."""
    _, left, right = np.intersect1d(one.places, other.places, return_indices=True)
    shared = [name for name in one.rows.column_names if name in other.rows.column_names]
    return difference(one.rows.select(shared).take(left), other.rows.select(shared).take(right))


def _of_images(stores: Sequence[Store]) -> Iterator[Conflict]:
    known: dict[str, dict[str, tuple[bytes, str]]] = {}
    for store in stores:
        folder = store.path / "samples"
        for name in sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []:
            held = known.setdefault(name, {})
            other = [
                (sample, held[sample][1])
                for sample, content in SampleDigests(store.path, name, "").all().items()
                if held.setdefault(sample, (content, str(store.path)))[0] != content
            ]
            if other:
                how = f"{len(other)} samples ({few([sample for sample, _ in other])}) are other images"
                yield Conflict(f"data {name}", (other[0][1], str(store.path)), how)
