"""What a store takes on disk: cells, rows, files, and the bytes of a row by column. No row is read."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from robustvit.errors import StoreDamaged
from robustvit.records.compacted.cell_files import compacted_of
from robustvit.records.compacted.compacted_file import is_lists_file
from robustvit.records.compacted.sample_tables import FOLDER
from robustvit.records.parquet import open_parquet
from robustvit.records.records import rows as count_rows
from robustvit.records.records_file import GARBAGE, RowFile
from robustvit.records.store import Store

TABLE, FOOTERS = "table of samples", "footers and notes"
"""What of the bytes of rows belongs to no column."""


@dataclass(frozen=True)
class ColumnSize:
    """A column. size: bytes; rows: of the cells that have it."""

    name: str
    size: int
    rows: int

    @property
    def each(self) -> float:
        """Bytes of a row that has it."""
        return self.size / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class StoreSize:
    """A store, or some cells of it.

    cells: with rows; compacted: how many of these; files: of rows and lists; size: bytes of these and the tables of samples; columns: those
    whose rows are lists last; other: bytes of everything else by kind; unreadable: files that cannot be opened, tables of samples that are
    gone or not whole among them.
    """

    cells: int
    compacted: int
    rows: int
    files: int
    size: int
    columns: tuple[ColumnSize, ...]
    other: dict[str, int]
    unreadable: tuple[str, ...]

    @property
    def each(self) -> float:
        """Bytes of a row, all in all."""
        return self.size / self.rows if self.rows else 0.0

    @property
    def judged(self) -> float:
        """Bytes of a row without top5 and logits."""
        return self.each - sum(one.size for one in self.columns if one.name in ("top5", "logits")) / self.rows if self.rows else 0.0


def store_size(store: Store, suite: str | None = None, models: Iterable[str] | None = None) -> StoreSize:
    """What a store takes, or the cells of a suite and of models; tables of samples are of all cells.

    Raises StoreError for a suite or model that no run requested.
    """
    chosen = suite is not None or models is not None
    cells = list(dict.fromkeys(one.cell for one in store.questions(suite, models))) if chosen else store.cells()
    sizes, counts, found = Counter[str](), Counter[str](), Counter[str]()
    unreadable: list[str] = []
    tables: set[str] = set()
    for cell in cells:
        files = store.files(cell)
        rows = count_rows(files)
        if not rows:
            continue
        found += Counter(cells=1, rows=rows, compacted=any(compacted_of(file) for file in files))
        names = {file.path for file in files} | {path for path in (store.path / "cells" / cell).iterdir() if is_lists_file(path.name)}
        own = Counter[str]()
        for path in sorted(names):
            found["files"] += 1
            try:
                own += _columns(path)
            except GARBAGE:
                unreadable.append(path.relative_to(store.path).as_posix())
                own[FOOTERS] += path.stat().st_size if path.is_file() else 0
        tables |= _tables(files)
        sizes += own
        counts += Counter(dict.fromkeys(own, rows))
    unreadable += [store.tables.path(name).relative_to(store.path).as_posix() for name in sorted(tables) if not store.tables.has(name)]
    sizes[TABLE] = _size((store.path / FOLDER).glob("*.parquet"))
    counts[TABLE] = found["rows"]
    order = sorted(filter(sizes.get, sizes), key=lambda name: (name in ("top5", "logits"), name in (TABLE, FOOTERS), -sizes[name]))
    columns = tuple(ColumnSize(name, sizes[name], counts[name]) for name in order)
    return StoreSize(
        found["cells"],
        found["compacted"],
        found["rows"],
        found["files"],
        sum(sizes.values()),
        columns,
        _others(store.path),
        tuple(unreadable),
    )


def _tables(files: Iterable[RowFile]) -> set[str]:
    """The tables of samples that files name, as far as they can be opened."""
    found = set()
    for compacted in filter(None, map(compacted_of, files)):
        with contextlib.suppress(StoreDamaged):
            found.add(str(compacted.meta["samples"]))
    return found


def _columns(path: Path) -> Counter[str]:
    """The bytes of each column of a file, and the rest of it."""
    found = Counter[str]()
    with open_parquet(path) as file:
        footer: pq.FileMetaData = file.metadata
        for group in range(footer.num_row_groups):
            for place in range(footer.num_columns):
                column = footer.row_group(group).column(place)
                found[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
    found[FOOTERS] = path.stat().st_size - sum(found.values())
    return found


def _others(root: Path) -> dict[str, int]:
    places = {
        "images": (root / "cells").glob("*/*.safetensors"), "galleries": (root / "cells").glob("*/gallery*.parquet"),
        "descriptions": (root / "cells").glob("*/*.json"), "manifests": (root / "runs").glob("*"),
        "digests of images": (root / "samples").glob("*/*"), "artifacts": (root / "learned").glob("*"),
        "environments": (root / "environments").glob("*"), "set aside as damaged": root.rglob("*.damaged"),
    }  # fmt: skip
    return {name: size for name, paths in places.items() if (size := _size(paths))}


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
