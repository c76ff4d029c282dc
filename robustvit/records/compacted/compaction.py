"""Turns finished cells into large files, of rows and of lists: written, read back and compared to the bit before a small one is removed.

Killed at any moment, the same command goes on: what is written is named by its content, and whoever reads finds the small files, the large
one, or both, whose rows are then taken once.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from robustvit.errors import StoreDamaged
from robustvit.records.columns import sample_fault
from robustvit.records.compacted.cell_files import FileRows, compacted_of, read_rows
from robustvit.records.compacted.compacted_file import LISTS, CompactedFile, PieceNotes, compacted_name, lists_name
from robustvit.records.compacted.difference import difference
from robustvit.records.compacted.encoding import encode_columns
from robustvit.records.disk import below, content_digest, remove, write_bytes
from robustvit.records.marker import mark_compacted
from robustvit.records.records import COMPACTED_SCHEMA, cover, file_rows
from robustvit.records.records_file import RowFile
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.sharing.leases import leased
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store
from robustvit.spec.sample_order import SHARD

log = logging.getLogger(__name__)
_OWN = ("schema", "cell", "shard", "start", "stop")  # notes that say where rows are, as pieces do
STATES = ("compacted", "already", "unfinished", "computed now", "damaged", "left")


@dataclass(frozen=True)
class CompactedCell:
    """What became of a cell. state: of STATES; reason: why it stays as it is. files, size: of rows, before and after, in bytes."""

    cell: str
    state: str
    reason: str = ""
    rows: int = 0
    files: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)


class Compaction:
    """Compacts cells of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._digests: dict[str, dict[str, bytes]] = {}

    def cell(self, cell: str, asked: int) -> CompactedCell:
        """Compacts a cell, where its first `asked` rows are there, nobody computes it and no file of it is damaged. Raises StoreFull."""
        with leased(below(self.store.path, "leases", f"{cell}-compact.lock")) as mine:
            if not mine or self._is_computed(cell):
                return CompactedCell(cell, "computed now", "another process has it")
            sweep_cell(self.store.path, cell)
            files = self.store.files(cell)
            chosen = _beginning(files)
            rows = sum(one.file.stop - one.start for one in chosen)
            before = _Files.of(files)
            kept = CompactedCell(cell, "unfinished", f"{rows:,} of {asked:,} rows", rows, (before.number,) * 2, (before.size,) * 2)
            if rows < asked or not chosen:
                return kept
            try:
                self.store.describe(cell)
                for file in {file.path: file for file in files}.values():
                    file.check()
                self._compact(cell, chosen, files)
            except StoreDamaged as error:
                return replace(kept, state="damaged", reason=str(error))
            except _Differs as error:
                return replace(kept, state="left", reason=str(error))
            now = _Files.of(self.store.files(cell))
            state = "already" if now == before else "compacted"
            return CompactedCell(cell, state, "", rows, (before.number, now.number), (before.size, now.size))

    def _is_computed(self, cell: str) -> bool:
        """Whether a process holds the lease of a shard of a cell."""
        for path in sorted((self.store.path / "leases").glob(f"{cell}-*.lock")):
            if path.stem != f"{cell}-compact":
                with leased(below(self.store.path, "leases", path.name)) as mine:
                    if not mine:
                        return True
        return False

    def _compact(self, cell: str, chosen: Sequence[FileRows], files: Sequence[RowFile]) -> None:
        rows, notes = _rows(chosen)
        made = compacted_of(chosen[0].file)
        if made is None or any(one.file.path != made.path for one in chosen):
            made = self.write(cell, rows, [PieceNotes(*_place(one.file), own) for one, own in zip(chosen, notes, strict=True)])
        _compare(made.read(), rows, made.path)
        mine = {made.path, made.lists_path()}
        for file in files:
            held = file.shard * SHARD + file.start
            if file.path not in mine and held + file.stop - file.start <= made.rows:
                if compacted_of(file) is None:
                    _compare(file.read(), rows.slice(held, file.stop - file.start), file.path)
                mine.add(file.path)
                for path in sorted(_paths([file]) - {made.lists_path()}):
                    remove(below(self.store.path, "cells", cell, path.name))

    def write(self, cell: str, rows: pa.Table, pieces: Sequence[PieceNotes]) -> CompactedFile:
        """Writes the file of a declared cell, and what it names before it. pieces: where its rows came from. Raises StoreFull."""
        mark_compacted(self.store.path)
        count, samples = rows.num_rows, rows["sample"].combine_chunks()
        labels = rows["label"].combine_chunks() if "label" in rows.column_names else None
        table, shared = self.store.tables.keep(samples, labels, self._digests_of(cell, samples))
        lists = [name for name in rows.column_names if name in LISTS]
        named = ""
        if lists:
            content = encode_columns(rows.select(lists), {"schema": COMPACTED_SCHEMA, "cell": cell, "rows": count})
            named = lists_name(count, content_digest(content))
            self._put(cell, named, content)
        common, own = _shared_notes(pieces)
        meta = {
            "schema": COMPACTED_SCHEMA, "cell": cell, "rows": count, "samples": table.name, "columns": rows.column_names, "lists": named,
            "notes": common, "pieces": [[*one[:3], notes] for one, notes in zip(pieces, own, strict=True)],
        }  # fmt: skip
        places = pa.array(np.arange(count, dtype=np.int32))
        held = rows.set_column(rows.column_names.index("sample"), "sample", places).drop_columns([*lists, *(["label"] if shared else [])])
        content = encode_columns(held, meta)
        path = self._put(cell, compacted_name(count, len(pieces), content_digest(content)), content)
        return CompactedFile(path, cell, count, len(pieces), content_digest(content), self.store.tables, self.store.verified)

    def _put(self, cell: str, name: str, content: memoryview) -> Path:
        """Writes a file, as old as the newest rows of the cell, so that a run is no newer for it."""
        newest = max((file.path.stat().st_mtime_ns for file in self.store.files(cell)), default=None)
        path = below(self.store.path, "cells", cell, name)
        write_bytes(path, content)
        if newest is not None:
            os.utime(path, ns=(newest, newest))
        return path

    def _digests_of(self, cell: str, samples: pa.Array) -> pa.Array | None:
        """The digests of the images that a cell was computed on; None where the store does not have that of each."""
        content = self.store.describe(cell).get("data_fingerprint")
        if not isinstance(content, str) or not content.isalnum():
            return None
        if content not in self._digests:
            self._digests[content] = SampleDigests(self.store.path, content, "").all()
        found = [self._digests[content].get(name) for name in samples.to_pylist()]
        return None if None in found else pa.array(found, pa.binary(16))


class _Differs(Exception):
    """Why the files of a cell cannot be one."""


class _Files(NamedTuple):
    """The files of a cell's rows: how many, their bytes, and their names."""

    number: int
    size: int
    names: frozenset[str]

    @classmethod
    def of(cls, files: Sequence[RowFile]) -> _Files:
        paths = _paths(files)
        return cls(len(paths), sum(path.stat().st_size for path in paths if path.exists()), frozenset(path.name for path in paths))


def _paths(files: Sequence[RowFile]) -> set[Path]:
    """The files of rows, and of the lists beside compacted ones."""
    found = {file.path for file in files}
    for file in files:
        compacted = compacted_of(file)
        with contextlib.suppress(StoreDamaged):
            if compacted is not None and (lists := compacted.lists_path()):
                found.add(lists)
    return found


def _beginning(files: Sequence[RowFile]) -> list[FileRows]:
    """The files of the longest run of rows from the first on, without a gap."""
    found, reached = [], 0
    for one in file_rows(cover(files)):
        if one.file.shard * SHARD + one.start != reached:
            break
        found.append(one)
        reached = one.file.shard * SHARD + one.file.stop
    return found


def _place(file: RowFile) -> tuple[int, int, int]:
    return file.shard, file.start, file.stop


def _rows(chosen: Sequence[FileRows]) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The rows of files that follow each other, and the notes of each."""
    tables, notes = read_rows(chosen, None)
    if len({tuple(zip(one.schema.names, map(str, one.schema.types), strict=True)) for one in tables}) > 1:
        raise _Differs("its files do not have the same columns: a run was continued by another version, or with another --keep")
    rows = pa.concat_tables([one.replace_schema_metadata(None) for one in tables]).combine_chunks()
    if why := sample_fault(rows):
        raise StoreDamaged(
            f"{chosen[0].file.path.parent}: in the files of this cell {why}. Delete the folder and run the same suite again."
        )
    return rows, [{key: value for key, value in one.items() if key not in _OWN} for one in notes]


def _shared_notes(pieces: Sequence[PieceNotes]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The notes that all pieces have, and those of each that not all have."""
    first = pieces[0].notes
    common = {key: value for key, value in first.items() if all(key in one.notes and one.notes[key] == value for one in pieces)}
    return common, [{key: value for key, value in one.notes.items() if key not in common} for one in pieces]


def _compare(found: pa.Table, rows: pa.Table, path: Path) -> None:
    """Refuses a file whose rows are others, in any bit."""
    if why := difference(found, rows):
        raise _Differs(f"{path.name} does not hold the rows of the other files of the cell: {why}")


def compact(
    store: Store, suite: str | None = None, models: Iterable[str] | None = None, tell: Callable[[CompactedCell, int], object] = lambda *_: 0
) -> list[CompactedCell]:  # fmt: skip
    """Compacts the finished cells that the runs of a store requested; what became of each, in the order of the runs.

    tell: called after each cell, with how many there are. Raises StoreError for a suite or model that no run requested, StoreFull where the
    disk is full: then what is there stays, and the same command goes on.
    """
    asked: dict[str, int] = {}
    for question in store.questions():
        if not question.undefined:
            asked[question.cell] = max(question.asked, asked.get(question.cell, 0))
    chosen = dict.fromkeys(question.cell for question in store.questions(suite, models) if question.cell in asked)
    sweep_store(store.path)
    compaction, found = Compaction(store), []
    for cell in chosen:
        found.append(compaction.cell(cell, asked[cell]))
        tell(found[-1], len(chosen))
    return found
