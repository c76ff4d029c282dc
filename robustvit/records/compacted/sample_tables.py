"""The samples of compacted cells: one table for all cells of the same samples, named by the digest of its bytes.

    ids/<digest>.parquet     sample, in evaluation order; label, where the cells have labels; digest, 16 bytes of each decoded image, where
                             the store has them

A compacted cell names a table, and of each of its rows the place in it. A table may go on beyond the rows of a cell.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustvit.errors import StoreDamaged
from robustvit.records.disk import below, content_digest, folder_stamps, write_bytes
from robustvit.records.parquet import read_table
from robustvit.records.records_file import GARBAGE
from robustvit.spec.given import why_not_regular

FOLDER = "ids"
_SCHEMA = {"sample": pa.string(), "label": pa.int32(), "digest": pa.binary(16)}
_ZSTD = 15
LOST = (
    "Restore it from a copy of the store, or delete the compacted files that name it, which `robustvit store verify` names, and run their "
    "suites again: that computes their rows anew."
)
"""What to do about a table of samples that is lost."""


@dataclass(frozen=True, eq=False)
class SampleTable:
    """The samples of one table. samples: string; labels: int32; digests: 16 bytes each; the latter two None where it has none."""

    name: str
    samples: pa.Array
    labels: pa.Array | None = None
    digests: pa.Array | None = None

    @cached_property
    def repeated(self) -> bool:
        """Whether a sample occurs twice, which no run writes."""
        return bool(pc.count_distinct(self.samples).as_py() < len(self.samples))

    def begins_with(self, samples: pa.Array, digests: pa.Array | None) -> bool:
        """Whether its first samples are these, of the same images."""
        if digests is None or self.digests is None:
            same = digests is self.digests
        else:
            same = bool(self.digests.slice(0, len(samples)).equals(digests))
        return same and bool(self.samples.slice(0, len(samples)).equals(samples))

    def has_labels(self, labels: pa.Array) -> bool:
        """Whether the labels of its first samples are these."""
        return self.labels is not None and bool(self.labels.slice(0, len(labels)).equals(labels))


class Chosen(NamedTuple):
    """A table for the rows of a cell, and whether it has the labels of these rows, too."""

    table: SampleTable
    labels: bool


class SampleTables:
    """The tables of a store, each read once. root: the store's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, SampleTable] = {}

    def path(self, name: str) -> Path:
        """Where a table is."""
        return self.root / FOLDER / f"{name}.parquet"

    def names(self) -> list[str]:
        """The names of the tables that are here, whole or not."""
        return sorted(path.stem for path in (self.root / FOLDER).glob("*.parquet"))

    def stamps(self) -> dict[str, list[int]]:
        """Size and time of the last change of each table."""
        return folder_stamps(self.root / FOLDER)

    def size(self) -> int:
        """The bytes of all tables."""
        return sum(size for size, _ in self.stamps().values())

    def get(self, name: str) -> SampleTable:
        """A table by name. Raises StoreDamaged where it is not here, or not the one that was written."""
        if name not in self._read:
            self._read[name] = _read(self.path(name))
        return self._read[name]

    def has(self, name: str) -> bool:
        """Whether a table is here, and the one that was written."""
        return self._whole(name) is not None

    def keep(self, samples: pa.Array, labels: pa.Array | None, digests: pa.Array | None) -> Chosen:
        """A table that begins with these samples, written now where the store has none. Raises StoreFull.

        Where there is one with other labels, or none, and these samples have labels, the choice is the one with these labels, else a new
        one for the first labels, else the one that is there: its cells then keep labels of their own.
        """
        fitting = [table for name in self.names() if (table := self._whole(name)) and table.begins_with(samples, digests)]
        if labels is None and fitting:
            return Chosen(fitting[0], False)
        for table in fitting:
            if labels is not None and table.has_labels(labels):
                return Chosen(table, True)
        labelled = next((table for table in fitting if table.labels is not None), None)
        if labelled is not None:
            return Chosen(labelled, False)
        return Chosen(self._write(samples, labels, digests), labels is not None)

    def _whole(self, name: str) -> SampleTable | None:
        try:
            return self.get(name)
        except StoreDamaged:
            return None

    def _write(self, samples: pa.Array, labels: pa.Array | None, digests: pa.Array | None) -> SampleTable:
        columns = {"sample": samples, "label": labels, "digest": digests}
        rows = pa.table({name: values for name, values in columns.items() if values is not None})
        sink = io.BytesIO()
        pq.write_table(
            rows, sink, compression="zstd", compression_level=_ZSTD, use_dictionary=False, write_statistics=False, write_page_checksum=True,
            column_encoding={"sample": "PLAIN", **({"label": "DELTA_BINARY_PACKED"} if labels is not None else {})},
        )  # fmt: skip
        name = content_digest(sink.getbuffer())
        write_bytes(below(self.root, FOLDER, f"{name}.parquet"), sink.getbuffer())
        return self.get(name)


def _read(path: Path) -> SampleTable:
    if not path.exists():
        raise StoreDamaged(f"{path} is gone, the table of samples of compacted cells. {LOST}")
    try:
        if why := why_not_regular(path):
            raise ValueError(why)
        content = path.read_bytes()
        if content_digest(content) != path.stem:
            raise ValueError("its bytes are not those that its name promises")
        rows = read_table(content)
        wrong = [one.name for one in rows.schema if _SCHEMA.get(one.name) != one.type or rows[one.name].null_count]
        if wrong or "sample" not in rows.column_names:
            raise ValueError(f"its column '{wrong[0]}' is none of a table of samples" if wrong else "it has no column 'sample'")
    except GARBAGE as error:
        raise StoreDamaged(f"{path}, a table of samples, is not whole ({str(error).splitlines()[0]}). {LOST}") from error
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    return SampleTable(path.stem, columns["sample"], columns.get("label"), columns.get("digest"))
