"""A finished cell in one file, whose name tells how many rows it holds, taken from how many files, and the digest of its bytes.

    cells/<cell id>/rows-<rows>-<files>-<digest>.parquet    rows [0, rows) in evaluation order: every column but top5 and logits
    cells/<cell id>/lists-<rows>-<digest>.parquet           top5 and logits of the same rows, which scoring never reads; named by the first

`sample` is the place in a table of samples (sample_tables.py), which also has the labels where `label` is not among the columns. Where
files of rows came from are remembered as pieces, because images that an attack left lie beside them and are called after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robustvit.errors import StoreDamaged
from robustvit.records.columns import FIELDS, schema_fault, value_fault
from robustvit.records.compacted.sample_tables import SampleTable, SampleTables
from robustvit.records.parquet import open_parquet, table_of
from robustvit.records.records_file import DIGITS, GARBAGE, is_large, notes_of, source_of
from robustvit.records.verified_files import VerifiedFiles
from robustvit.spec.given import why_not_regular
from robustvit.spec.sample_order import SHARD

LISTS = ("top5", "logits")
"""The columns that lie in a file of their own."""

_NAME = re.compile(r"rows-(\d{7,9})-(\d{5,9})-([0-9a-f]{20})\.parquet")
_LISTS_NAME = re.compile(r"lists-(\d{7,9})-([0-9a-f]{20})\.parquet")
_MOST_ROW = 1 << 14  # bytes that a row may take, unpacked, without its lists
_MOST_LISTS = 1 << 33  # bytes that the lists of a file may take: the logits of 50,000 samples take 4.4 billion with 21,841 classes
_META = {"cell": str, "columns": list, "lists": str, "samples": str, "notes": dict, "pieces": list}
_AGAIN = "Run the same suite again: it sets the file aside and computes these rows anew; or restore it from a copy."


def compacted_name(rows: int, files: int, digest: str) -> str:
    """The name of a compacted file."""
    return f"rows-{rows:07d}-{files:05d}-{digest}.parquet"


def lists_name(rows: int, digest: str) -> str:
    """The name of the file of lists beside a compacted file."""
    return f"lists-{rows:07d}-{digest}.parquet"


def is_lists_file(name: str) -> bool:
    """Whether a file is called like one of lists."""
    return _LISTS_NAME.fullmatch(name) is not None


class PieceNotes(NamedTuple):
    """Where rows of a compacted file came from: rows [start, stop) of a shard, and what was recorded beside them."""

    shard: int
    start: int
    stop: int
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class CompactedFile:
    """Rows [0, rows) of a cell, once in `files` files. tables: of samples; verified: the files that need not be hashed again."""

    path: Path
    cell: str
    rows: int
    files: int
    digest: str
    tables: SampleTables | None = field(default=None, compare=False, repr=False)
    verified: VerifiedFiles | None = field(default=None, compare=False, repr=False)

    @classmethod
    def at(
        cls, path: Path, cell: str, tables: SampleTables | None = None, verified: VerifiedFiles | None = None
    ) -> CompactedFile | None:  # fmt: skip
        """The file at a path in a cell's folder, None where its name is not that of a compacted one."""
        found = _NAME.fullmatch(path.name)
        return None if found is None else cls(path, cell, int(found[1]), int(found[2]), found[3], tables, verified)

    def spans(self) -> list[tuple[int, int, int]]:
        """Its rows by shard, as its name tells: (shard, 0, stop)."""
        return [(shard, 0, min(SHARD, self.rows - shard * SHARD)) for shard in range(-(-self.rows // SHARD))]

    def pieces(self) -> list[PieceNotes]:
        """Where its rows came from. Raises StoreDamaged where the file is not whole."""
        try:
            return [PieceNotes(shard, start, stop, {**self.meta["notes"], **own}) for shard, start, stop, own in self.meta["pieces"]]
        except (LookupError, TypeError, ValueError) as error:
            raise StoreDamaged(f"{self.path} holds no Records: it does not say where its rows came from. {_AGAIN}") from error

    def notes(self, shard: int, start: int, stop: int) -> Mapping[str, Any]:
        """What was recorded beside rows [start, stop) of a shard, or else beside all rows. Raises StoreDamaged as `pieces` does."""
        return self._notes.get((shard, start, stop)) or dict(self.meta["notes"])

    @cached_property
    def _notes(self) -> dict[tuple[int, int, int], Mapping[str, Any]]:
        return {one[:3]: one.notes for one in self.pieces()}

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What it says of itself. Raises StoreDamaged where it is not whole, or not that of its name and folder."""
        with self._opened() as (_, meta):
            return meta

    def names(self) -> list[str]:
        """The names of its columns, as frames have them."""
        return [str(name) for name in self.meta["columns"]]

    def lists_path(self) -> Path | None:
        """The file of lists beside it; None where the cell has none."""
        name = self.meta["lists"]
        return self.path.with_name(str(name)) if name else None

    def table(self) -> SampleTable:
        """The table of its samples. Raises StoreDamaged where that is gone, or not whole."""
        assert self.tables is not None
        return self.tables.get(str(self.meta["samples"]))

    def read(self, columns: Sequence[str] | None = None, begin: int = 0, end: int | None = None) -> pa.Table:
        """Rows [begin, end) in evaluation order. columns: only these, as far as it has them.

        Raises StoreDamaged where it, the lists beside it or the table of its samples is not whole.
        """
        with self._opened() as (file, meta):
            names = [name for name in (meta["columns"] if columns is None else columns) if name in meta["columns"]]
            held = table_of(file, ["sample", *(name for name in names if name != "sample")]).slice(begin, self._length(begin, end))
        found = {name: held[name] for name in held.column_names}
        if wanted := [name for name in names if name not in found and name in LISTS]:
            lists = self._lists(wanted).slice(begin, self._length(begin, end))
            found |= {name: lists[name] for name in wanted}
        self._decode(found, names)
        try:
            rows = pa.table({name: found[name] for name in names})
        except (LookupError, *GARBAGE) as error:
            raise StoreDamaged(f"{self.path} holds no Records: it lacks {error} of the columns that it names. {_AGAIN}") from error
        self._refuse(schema_fault(self._schema(rows.schema, found)))
        self._refuse(value_fault(rows.drop_columns(["sample"]) if "sample" in names else rows))
        return rows

    def check(self) -> None:
        """Raises StoreDamaged unless it, the lists beside it and the table of its samples are what was written."""
        self.read(tuple(FIELDS))
        lists = self.lists_path()
        if lists is not None:
            with self._opened_lists(lists):
                pass
        if self.verified is not None:
            for path in filter(is_large, filter(None, (self.path, lists))):
                self.verified.remember(path)

    def _length(self, begin: int, end: int | None) -> int:
        return (self.rows if end is None else end) - begin

    def _decode(self, found: dict[str, Any], names: Sequence[str]) -> None:
        """Puts samples in the place of their numbers, and labels that the table has among the columns."""
        shares = "label" in names and "label" not in found
        if "sample" not in names and not shares:
            return
        table, places = self.table(), found["sample"]
        if not pa.types.is_int32(places.type) or places.null_count:
            self._refuse("its column 'sample' is no place in a table of samples")
        numbers = places.to_numpy()
        in_order = len(numbers) > 0 and bool((np.diff(numbers) == 1).all())
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(table.samples):
            self._refuse(f"it names samples that the table {table.name} does not have")
        if table.repeated or not (in_order or len(np.unique(numbers)) == len(numbers)):
            self._refuse("a sample has several rows")
        for name, values in (("sample", table.samples), ("label", table.labels if shares else None)):
            if values is not None and name in names:
                found[name] = values.slice(int(numbers[0]), len(numbers)) if in_order else values.take(pa.array(numbers))

    def _schema(self, schema: pa.Schema, found: Mapping[str, Any]) -> pa.Schema:
        """The types of columns that were read, and of those that they mean nothing without."""
        others = [name for name in ("sample", "label", "pred") if name in self.meta["columns"] and name not in schema.names]
        for name in others:
            schema = schema.append(pa.field(name, FIELDS[name]))
        return schema

    def _lists(self, names: Sequence[str]) -> pa.Table:
        path = self.lists_path()
        if path is None:
            self._refuse("it names no file of the lists that it is to have")
        assert path is not None
        with self._opened_lists(path) as file:
            return table_of(file, names)

    @contextmanager
    def _opened(self) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
        with _opened(self.path, self.digest, self.verified) as file:
            meta = notes_of(file)
            self._refuse_stranger(file.metadata, meta)
            self.__dict__["meta"] = meta
            yield file, meta

    @contextmanager
    def _opened_lists(self, path: Path) -> Iterator[pq.ParquetFile]:
        named = _LISTS_NAME.fullmatch(path.name)
        if named is None:
            self._refuse("the name of the file of its lists is none")
        assert named is not None
        with _opened(path, named[2], self.verified) as file:
            meta, size = notes_of(file), _unpacked(file.metadata)
            if meta.get("cell") != self.cell or file.metadata.num_rows != self.rows or size > _MOST_LISTS:
                raise StoreDamaged(f"{path} does not hold the lists of {self.path.name}. {_AGAIN}")
            yield file

    def _refuse(self, why: str) -> None:
        if why:
            raise StoreDamaged(f"{self.path} holds no Records: {why}. {_AGAIN}")

    def _refuse_stranger(self, footer: pq.FileMetaData, meta: Mapping[str, Any]) -> None:
        if footer.num_rows != self.rows:
            raise StoreDamaged(f"{self.path} holds {footer.num_rows} rows, its name promises {self.rows}. {_AGAIN}")
        if (size := _unpacked(footer)) > self.rows * _MOST_ROW:
            raise StoreDamaged(f"{self.path} holds {size:,} bytes of rows, more than the {self.rows * _MOST_ROW:,} that are read. {_AGAIN}")
        if odd := [name for name, kind in _META.items() if not isinstance(meta.get(name), kind)]:
            self._refuse(f"it does not tell its {odd[0]}")
        if meta["cell"] != self.cell:
            raise StoreDamaged(f"{self.path} was copied or renamed: it holds rows of cell {meta['cell']}. {_AGAIN}")


@contextmanager
def _opened(path: Path, digest: str, verified: VerifiedFiles | None) -> Iterator[pq.ParquetFile]:
    """A Parquet file whose bytes are those of its name. Raises StoreDamaged."""

    def refuse(found: str) -> None:
        if found != digest:
            raise StoreDamaged(f"{path} is not whole (its bytes are not those that its name promises). {_AGAIN}")

    if why := why_not_regular(path):
        raise StoreDamaged(f"{path} {why}. {_AGAIN}")
    try:
        assert len(digest) == DIGITS
        with open_parquet(source_of(path, verified, refuse)) as file:
            yield file
    except GARBAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreDamaged(f"{path} is not whole ({first}). {_AGAIN}") from error


def _unpacked(footer: pq.FileMetaData) -> int:
    return sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
