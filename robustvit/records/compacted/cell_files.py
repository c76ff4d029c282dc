"""The files of a cell that hold rows: small ones, each of rows of a shard, and a compacted one, as the pieces that it was made of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from robustvit.errors import StoreDamaged
from robustvit.records.compacted.compacted_file import CompactedFile
from robustvit.records.compacted.sample_tables import SampleTables
from robustvit.records.records_file import RecordsFile, RowFile, or_moved
from robustvit.records.verified_files import VerifiedFiles
from robustvit.spec.sample_order import SHARD

_LISTINGS = 5  # of a folder that changes meanwhile, at most
Moved = Callable[[RowFile], RowFile | None]
T = TypeVar("T")


@dataclass(frozen=True)
class CompactedPiece:
    """Rows [start, stop) of a shard that a compacted file holds: what was once a file of its own. moved: as of `RecordsFile`."""

    compacted: CompactedFile
    shard: int
    start: int
    stop: int
    moved: Moved | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The compacted file."""
        return self.compacted.path

    @property
    def cell(self) -> str:
        """The cell whose rows they are."""
        return self.compacted.cell

    @property
    def first(self) -> int:
        """The place of its first row in evaluation order."""
        return self.shard * SHARD + self.start

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows. Raises StoreDamaged as `CompactedFile.read` does."""
        return self._here(
            lambda: self.compacted.read(columns, self.first, self.first + self.stop - self.start), lambda other: other.read(columns)
        )

    def read_with_notes(self, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
        """Its rows, and what was recorded beside them. Raises StoreDamaged as `read` does."""
        return self.read(columns), self.about()

    def about(self) -> dict[str, Any]:
        """What was recorded beside its rows: seconds, environment, version. Raises StoreDamaged where the file is not whole."""
        return self._here(lambda: dict(self.compacted.notes(self.shard, self.start, self.stop)), lambda other: other.about())

    def columns(self) -> list[str]:
        """The names of its columns; no row is read. Raises StoreDamaged where the file is not whole."""
        return self._here(self.compacted.names, lambda other: other.columns())

    def check(self) -> None:
        """Raises StoreDamaged unless the whole compacted file is what was written."""
        self._here(self.compacted.check, lambda other: other.check())

    def _here(self, work: Callable[[], T], again: Callable[[RowFile], T]) -> T:
        return or_moved(self, self.moved, work, again)


def compacted_of(file: RowFile) -> CompactedFile | None:
    """The compacted file that rows are in, None for a file of their own."""
    return file.compacted if isinstance(file, CompactedPiece) else None


def row_files(folder: Path, cell: str, verified: VerifiedFiles | None = None, tables: SampleTables | None = None) -> list[RowFile]:
    """The files of a cell in its folder, whole or not, by name; a compacted one as its pieces.

    A compacted file that is not whole has a piece for each shard, as its name tells: whoever reads one is told.
    """
    moved = _finder(folder, cell, verified, tables)
    found: list[RowFile] = []
    for name in listed(folder):
        compacted = CompactedFile.at(folder / name, cell, tables, verified)
        if compacted is not None:
            found += _pieces(compacted, moved)
        elif (file := RecordsFile.at(folder / name, cell, verified, moved)) is not None:
            found.append(file)
    return found


def named_files(names: Iterable[str], cell: str) -> list[RowFile]:
    """The rows that names of files promise; no file is opened."""
    found: list[RowFile] = []
    for name in names:
        compacted = CompactedFile.at(Path(name), cell)
        if compacted is not None:
            found += [CompactedPiece(compacted, *span) for span in compacted.spans()]
        elif (file := RecordsFile.at(Path(name), cell)) is not None:
            found.append(file)
    return found


def listed(folder: Path) -> list[str]:
    """The names in a folder at one moment, in order; none where it is not there. It is listed again where it changed meanwhile."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        for _ in range(_LISTINGS):
            changed = os.stat(folder).st_mtime_ns
            names = sorted(os.listdir(folder))
            if os.stat(folder).st_mtime_ns == changed:
                break
    return names


class FileRows(NamedTuple):
    """A file, and the first of its rows that no file before it holds."""

    file: RowFile
    start: int


def read_rows(found: Sequence[FileRows], columns: Sequence[str] | None) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """The rows of files that follow each other, and what was recorded beside those of each; a compacted file is opened once.

    Raises StoreDamaged where a file is not whole.
    """
    tables, notes = [], []
    for run in _runs(found):
        first, last = run[0], run[-1].file
        compacted = compacted_of(first.file)
        if compacted is None or len(run) == 1:
            table, own = first.file.read_with_notes(columns)
            tables.append(table.slice(first.start - first.file.start))
            notes.append(own)
            continue
        try:
            tables.append(compacted.read(columns, first.file.shard * SHARD + first.start, last.shard * SHARD + last.stop))
        except StoreDamaged:
            if compacted.path.exists():
                raise
            tables += [one.file.read(columns).slice(one.start - one.file.start) for one in run]  # it was compacted again meanwhile
        notes += [one.file.about() for one in run]
    return tables, notes


def _runs(found: Sequence[FileRows]) -> Iterator[list[FileRows]]:
    """Rows that follow each other in one compacted file; any others by themselves."""
    run: list[FileRows] = []
    for one in found:
        last = run[-1].file if run else None
        follows = last is not None and one.file.shard * SHARD + one.start == last.shard * SHARD + last.stop
        if run and not (follows and compacted_of(one.file) is not None and one.file.path == run[0].file.path):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _pieces(compacted: CompactedFile, moved: Moved) -> list[RowFile]:
    spans = compacted.spans()
    if len(spans) != compacted.files:  # else every shard was one file, and nothing has to be read
        with contextlib.suppress(StoreDamaged):
            spans = [one[:3] for one in compacted.pieces()]
    return [CompactedPiece(compacted, *span, moved) for span in spans]


def _finder(folder: Path, cell: str, verified: VerifiedFiles | None, tables: SampleTables | None) -> Moved:
    """Finds the rows of a file that was removed after it was listed in the compacted file that holds them now."""

    def find(file: RowFile) -> RowFile | None:
        for name in listed(folder):
            other = CompactedFile.at(folder / name, cell, tables, verified)
            if other is not None and other.path != file.path and file.shard * SHARD + file.stop <= other.rows:
                return CompactedPiece(other, file.shard, file.start, file.stop, find)
        return None

    return find
