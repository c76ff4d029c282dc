"""One Parquet file of Records: rows of a shard of a cell, which knows its place and its bytes.

Its name has the digest of its content, `<shard>-<start>-<stop>-<digest>.parquet`; earlier files have none, and are checked as far
as the checksums of their pages go. Its metadata repeat cell, shard, start and stop, so that a file in another's place is not believed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
_META = b"robustvit"
_AGAIN = "Run the same suite again: it sets the file aside and computes these rows anew; or delete it."
GARBAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RuntimeError)
"""What pyarrow raises on bytes that are no Parquet file, or no longer the one that was written."""


@dataclass(frozen=True)
class RecordsFile:
    """Rows [start, stop) of a shard of a cell, in one Parquet file.

    digest: of its bytes, as its name has it; "" in earlier files. verified: the files that need not be hashed again.
    """

    path: Path
    cell: str
    shard: int
    start: int
    stop: int
    digest: str = ""
    verified: VerifiedFiles | None = field(default=None, compare=False, repr=False)

    @classmethod
    def at(cls, path: Path, cell: str, verified: VerifiedFiles | None = None) -> RecordsFile | None:
        """The file at a path in a cell's folder, None where its name is not that of a file of Records."""
        found = _NAME.fullmatch(path.name)
        if found is None:
            return None
        shard, start, stop = (int(part) for part in found.groups()[:3])
        return cls(path, cell, shard, start, stop, found[4] or "", verified)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows. Raises StoreDamaged where the file is not whole, or is not that of its name and folder."""
        return self.read_with_notes(columns)[0]

    def read_with_notes(self, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
        """Its rows, and what was recorded beside them: seconds, environment, version. Raises StoreDamaged as `read` does."""
        with self._opened() as file:
            found = table_of(file, columns)
            if not self.digest:
                found.validate(full=True)
            self._refuse(value_fault(found))
            return found, _notes(file)

    def about(self) -> dict[str, Any]:
        """What was recorded beside its rows: seconds, environment, version. Raises StoreDamaged as `read` does."""
        with self._opened() as file:
            return _notes(file)

    def columns(self) -> list[str]:
        """The names of its columns; no row is read. Raises StoreDamaged as `read` does."""
        with self._opened() as file:
            return list(file.schema_arrow.names)

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

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        if why := why_not_regular(self.path):
            raise StoreDamaged(f"{self.path} {why}. {_AGAIN}")
        try:
            with open_parquet(self._source()) as file:
                self._refuse_stranger(file.metadata, _notes(file))
                self._refuse(schema_fault(file.schema_arrow))
                yield file
        except GARBAGE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreDamaged(f"{self.path} is not whole ({first}). {_AGAIN}") from error

    def _source(self) -> Any:
        """What to read it from: its bytes, hashed now, or its path where that is not needed."""
        if not self.digest:
            return self.path
        if is_large(self.path):
            if self.verified is not None and self.verified.has(self.path):
                return self.path
            with self.path.open("rb") as content:
                self._refuse_changed(hashlib.file_digest(content, "sha256").hexdigest()[: len(self.digest)])
            return self.path
        whole = self.path.read_bytes()
        self._refuse_changed(content_digest(whole))
        return pa.BufferReader(whole)

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


def is_large(path: Path) -> bool:
    """Whether a file is hashed once, and not whenever it is read."""
    try:
        return path.stat().st_size > LARGE
    except OSError:
        return False


def encode_rows(rows: pa.Table, meta: Mapping[str, Any]) -> memoryview:
    """The content of a file of Records. meta: its place, and what is recorded beside the rows."""
    sink = io.BytesIO()
    described = rows.replace_schema_metadata({_META: json.dumps(meta, sort_keys=True)})
    pq.write_table(described, sink, compression="zstd", write_page_checksum=True)
    return sink.getbuffer()


def file_name(shard: int, start: int, stop: int, digest: str, ending: str = "parquet") -> str:
    """The name of a file of rows [start, stop) of a shard, or of the images beside them."""
    return f"{shard:06d}-{start:03d}-{stop:03d}-{digest}.{ending}"


def _notes(file: pq.ParquetFile) -> dict[str, Any]:
    return dict(json.loads((file.schema_arrow.metadata or {}).get(_META, b"{}")))
