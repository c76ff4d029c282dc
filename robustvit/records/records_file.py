"""One Parquet file of Records: rows of a shard of a cell, which knows its place and its bytes.

Its name has the digest of its content, `<shard>-<start>-<stop>-<digest>.parquet`; earlier files have none, and are checked as far
as the checksums of their pages go. Its metadata repeat cell, shard, start and stop, so that a file in another's place is not believed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from robustvit.errors import StoreDamaged
from robustvit.records.columns import FIELDS, schema_fault, value_fault
from robustvit.records.disk import content_digest
from robustvit.records.parquet import open_parquet, table_of
from robustvit.records.verified_files import VerifiedFiles
from robustvit.spec.given import why_not_regular

LARGE = 1 << 20  # bytes; what is smaller is hashed whenever it is read, what is larger (kept logits) once
_MOST = 1 << 28  # bytes that the rows of a file may take, unpacked: the logits of 512 samples take 44 million with 21,841 classes
_NAME = re.compile(r"(\d{6})-(\d{3})-(\d{3})(?:-([0-9a-f]{20}))?\.parquet")
META = b"robustvit"
T = TypeVar("T")
DIGITS = 20  # of a digest, as names of files carry them
_AGAIN = "Run the same suite again: it sets the file aside and computes these rows anew; or delete it."
GARBAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RuntimeError)
"""What pyarrow raises on bytes that are no Parquet file, or no longer the one that was written."""


class RowFile(Protocol):
    """Rows [start, stop) of a shard of a cell, in a file of their own (`RecordsFile`) or in one with others (`CompactedPiece`)."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def cell(self) -> str:
        """The cell whose rows they are."""

    @property
    def shard(self) -> int:
        """The shard whose rows they are."""

    @property
    def start(self) -> int:
        """The first of its rows, counted from the start of the shard."""

    @property
    def stop(self) -> int:
        """The row after its last."""

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows. Raises StoreDamaged where the file is not whole, or is not that of its name and folder."""

    def read_with_notes(self, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
        """Its rows, and what was recorded beside them. Raises StoreDamaged as `read` does."""

    def about(self) -> dict[str, Any]:
        """What was recorded beside its rows: seconds, environment, version. Raises StoreDamaged as `read` does."""

    def columns(self) -> list[str]:
        """The names of its columns; no row is read. Raises StoreDamaged as `read` does."""

    def check(self) -> None:
        """Raises StoreDamaged unless the whole file is what was written."""


@dataclass(frozen=True)
class RecordsFile:
    """Rows [start, stop) of a shard of a cell, in one Parquet file.

    digest: of its bytes, as its name has it; "" in earlier files. verified: the files that need not be hashed again. moved: finds the rows
    in another file, where this one is gone since it was listed.
    """

    path: Path
    cell: str
    shard: int
    start: int
    stop: int
    digest: str = ""
    verified: VerifiedFiles | None = field(default=None, compare=False, repr=False)
    moved: Callable[[RowFile], RowFile | None] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def at(
        cls, path: Path, cell: str, verified: VerifiedFiles | None = None, moved: Callable[[RowFile], RowFile | None] | None = None
    ) -> RecordsFile | None:
        """The file at a path in a cell's folder, None where its name is not that of a file of Records."""
        found = _NAME.fullmatch(path.name)
        if found is None:
            return None
        shard, start, stop = (int(part) for part in found.groups()[:3])
        return cls(path, cell, shard, start, stop, found[4] or "", verified, moved)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows. Raises StoreDamaged where the file is not whole, or is not that of its name and folder."""
        return self.read_with_notes(columns)[0]

    def read_with_notes(self, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
        """Its rows, and what was recorded beside them: seconds, environment, version. Raises StoreDamaged as `read` does."""
        return or_moved(self, self.moved, lambda: self._rows(columns), lambda other: other.read_with_notes(columns))

    def about(self) -> dict[str, Any]:
        """What was recorded beside its rows: seconds, environment, version. Raises StoreDamaged as `read` does."""
        return or_moved(self, self.moved, self._notes, lambda other: other.about())

    def columns(self) -> list[str]:
        """The names of its columns; no row is read. Raises StoreDamaged as `read` does."""
        return or_moved(self, self.moved, self._names, lambda other: other.columns())

    def check(self) -> None:
        """Raises StoreDamaged unless the whole file is what was written. Large files, and those without a digest, are read once.

        The digest, where there is one, speaks for columns that are not of the schema (kept logits), which are not read.
        """
        once = self.verified if not self.digest or is_large(self.path) else None
        if once is not None and once.has(self.path):
            return
        self.read(tuple(FIELDS) if self.digest else None)
        if once is not None:
            once.remember(self.path)

    def _rows(self, columns: Sequence[str] | None) -> tuple[pa.Table, dict[str, Any]]:
        with self._opened() as file:
            found = table_of(file, columns)
            if not self.digest:
                found.validate(full=True)
            self._refuse(value_fault(found))
            return found, notes_of(file)

    def _notes(self) -> dict[str, Any]:
        with self._opened() as file:
            return notes_of(file)

    def _names(self) -> list[str]:
        with self._opened() as file:
            return list(file.schema_arrow.names)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        if why := why_not_regular(self.path):
            raise StoreDamaged(f"{self.path} {why}. {_AGAIN}")
        try:
            with open_parquet(self._source()) as file:
                self._refuse_stranger(file.metadata, notes_of(file))
                self._refuse(schema_fault(file.schema_arrow))
                yield file
        except GARBAGE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreDamaged(f"{self.path} is not whole ({first}). {_AGAIN}") from error

    def _source(self) -> Any:
        """What to read it from: its bytes, hashed now, or its path where that is not needed."""
        return source_of(self.path, self.verified, self._refuse_changed) if self.digest else self.path

    def _refuse_changed(self, found: str) -> None:
        if found != self.digest:
            raise StoreDamaged(f"{self.path} is not whole (its bytes are not those that its name promises). {_AGAIN}")

    def _refuse(self, why: str) -> None:
        """Raises StoreDamaged where there is a reason to: digest and checksums are right, and yet no run writes such rows."""
        if why:
            raise StoreDamaged(f"{self.path} holds no Records: {why}. {_AGAIN}")

    def _refuse_stranger(self, footer: pq.FileMetaData, meta: Mapping[str, Any]) -> None:
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        rows = max(footer.num_rows, sum(group.num_rows for group in groups))
        if rows != self.stop - self.start:
            raise StoreDamaged(f"{self.path} holds {rows} rows, its name promises {self.stop - self.start}. {_AGAIN}")
        own = {"cell": self.cell, "shard": self.shard, "start": self.start, "stop": self.stop}
        if (size := sum(group.total_byte_size for group in groups)) > _MOST:
            raise StoreDamaged(f"{self.path} holds {size:,} bytes of rows, more than the {_MOST:,} that are read. {_AGAIN}")
        other = {key: meta[key] for key, value in own.items() if key in meta and meta[key] != value}
        if other:
            written = ", ".join(f"{key} {value}" for key, value in other.items())
            raise StoreDamaged(f"{self.path} was copied or renamed: it holds rows of {written}. {_AGAIN}")


def or_moved(
    file: RowFile, moved: Callable[[RowFile], RowFile | None] | None, work: Callable[[], T], again: Callable[[RowFile], T]
) -> T:  # fmt: skip
    """The work on a file; where that is gone since it was listed, `again` on the one that has taken its place.

    moved: finds that one. Raises StoreDamaged where there is none.
    """
    try:
        return work()
    except StoreDamaged:
        other = None if moved is None or file.path.exists() else moved(file)
        if other is None:
            raise
    return again(other)


def source_of(path: Path, verified: VerifiedFiles | None, refuse: Callable[[str], None]) -> Any:
    """What to read a file from whose name has its digest: its bytes, hashed now, or its path where it is large and known to be whole.

    refuse: called with the digest that the bytes have.
    """
    if is_large(path):
        if verified is None or not verified.has(path):
            with path.open("rb") as content:
                refuse(hashlib.file_digest(content, "sha256").hexdigest()[:DIGITS])
        return path
    whole = path.read_bytes()
    refuse(content_digest(whole))
    return pa.BufferReader(whole)


def is_large(path: Path) -> bool:
    """Whether a file is hashed once, and not whenever it is read."""
    try:
        return path.stat().st_size > LARGE
    except OSError:
        return False


def encode_rows(rows: pa.Table, meta: Mapping[str, Any]) -> memoryview:
    """The content of a file of Records. meta: its place, and what is recorded beside the rows."""
    sink = io.BytesIO()
    described = rows.replace_schema_metadata({META: json.dumps(meta, sort_keys=True)})
    pq.write_table(described, sink, compression="zstd", write_page_checksum=True)
    return sink.getbuffer()


def file_name(shard: int, start: int, stop: int, digest: str, ending: str = "parquet") -> str:
    """The name of a file of rows [start, stop) of a shard, or of the images beside them."""
    return f"{shard:06d}-{start:03d}-{stop:03d}-{digest}.{ending}"


def notes_of(file: pq.ParquetFile) -> dict[str, Any]:
    """What a file of Records says of itself, and what was recorded beside its rows."""
    return dict(json.loads((file.schema_arrow.metadata or {}).get(META, b"{}")))
