"""Whether a store holds what was written there: the checksum and schema of every file, and every row of every finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.errors import StoreDamaged, StoreError, few
from robustvit.records.compacted.cell_files import compacted_of, row_files
from robustvit.records.compacted.sample_tables import LOST, SampleTables
from robustvit.records.disk import read_json
from robustvit.records.images import is_whole_gallery, kept_images, were_removed
from robustvit.records.manifest_files import read_manifest
from robustvit.records.records import rows as count_rows
from robustvit.records.records_file import RowFile
from robustvit.records.sample_digests import is_whole_table
from robustvit.records.store import Store
from robustvit.records.upkeep.file_kinds import files_below, kind_of, promised_digest
from robustvit.spec.given import why_not_regular
from robustvit.spec.grouping import grouped

_FOREIGN = "is no file of a store; nothing reads it"
_OTHER_BYTES = "is not whole (its bytes are not those that its name promises)"


class Fault(NamedTuple):
    """What is wrong with a file or a cell. place: below the store; kind: damaged, incomplete or foreign.

    files: of rows that cannot be read because of it, below the store; of a table of samples alone.
    """

    place: str
    kind: str
    what: str
    files: tuple[str, ...] = ()


class Verified(NamedTuple):
    """How many cells and files were read, and every fault of them."""

    cells: int
    files: int
    faults: list[Fault]


def verify(store: Store, tell: Callable[[int, int], object] = lambda *_: None) -> Verified:
    """Reads every file of a store whole, whatever was verified before, and counts the rows of finished runs. Nothing is changed.

    tell: called after each cell, with how many are done and how many there are. What was set aside as damaged, and what a process writes
    now, is passed over.
    """
    faults: list[Fault] = []
    files, tables = 0, SampleTables(store.path)
    lost: dict[str, list[str]] = {name: [] for name in tables.names()}
    cells = [cell for cell in store.cells() if kind_of(store.path, store.path / "cells" / cell / "cell.json")]
    for path in files_below(store.path):
        kind = kind_of(store.path, path)
        if kind != "worker":  # which comes and goes, and is no evidence
            files += kind not in ("set aside", "lock")
            faults += _of_file(store.path, path, kind)
    for number, cell in enumerate(cells, 1):
        faults += _of_rows(store, cell, tables, lost)
        tell(number, len(cells))
    for name, needed in lost.items():
        faults += _of_table(store.path, name, tables, needed)
    return Verified(len(cells), files, [*sorted(faults), *_incomplete(store)])


def in_one_line(faults: Sequence[Fault]) -> str:
    """The first few faults, those with the same reason once, for a sentence."""
    alike = grouped(((fault.kind, fault.what), fault.place) for fault in faults)
    return few(
        [
            f"{kind}: {places[0]} {what.rstrip('.')}" + (f" (and {len(places) - 1} more)" if len(places) > 1 else "")
            for (kind, what), places in alike.items()
        ]
    )


def _of_file(root: Path, path: Path, kind: str) -> Iterator[Fault]:
    """What is wrong with a file by itself; those of rows, and the tables that they name, are read by cell."""
    place = path.relative_to(root).as_posix()
    if not kind:
        yield Fault(place, "foreign", _FOREIGN)
        return
    try:
        what = why_not_regular(path) or _wrong(root, path, kind)
    except StoreError as error:
        what = str(error)
    if what:
        yield Fault(place, "damaged", _brief(what, path))


def _wrong(root: Path, path: Path, kind: str) -> str:
    """What is wrong with a file of a kind; "" where nothing is. Raises StoreError with it, too."""
    if kind in ("marker", "verified", "failure", "environment"):
        read_json(path)
    elif kind == "manifest":
        read_manifest(path)
    elif kind == "gallery":
        return "" if is_whole_gallery(path) else "is not whole"
    elif kind == "digests":
        return "" if is_whole_table(path) else "is not whole"
    elif kind in ("images", "artifact", "lists") and (promised := promised_digest(root, path)):
        with path.open("rb") as content:
            return "" if hashlib.file_digest(content, "sha256").hexdigest().startswith(promised) else _OTHER_BYTES
    return ""


def _of_table(root: Path, name: str, tables: SampleTables, needed: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with a table of samples. needed: the files of rows that need it."""
    path = tables.path(name)
    try:
        tables.get(name)
    except StoreDamaged as error:
        what = _brief(str(error).removesuffix(LOST), path).rstrip(". ")
        count = f"{len(needed)} compacted files need it" if len(needed) != 1 else "1 compacted file needs it"
        todo = "Restore it from a copy of the store, or delete these files (`store verify --json` lists all) and run their suites again."
        told = f"{what}; {count}: {few(needed)}. {todo}"
        yield Fault(
            path.relative_to(root).as_posix(), "damaged", told if needed else f"{what}; no cell needs it: delete it.", tuple(needed)
        )


def _of_rows(store: Store, cell: str, tables: SampleTables, lost: dict[str, list[str]]) -> Iterator[Fault]:
    """What is wrong with a cell's description and its rows. lost: gets the files that need a table of samples which is not whole."""
    folder = store.path / "cells" / cell
    try:
        store.describe(cell)
    except StoreDamaged as error:
        yield Fault(f"cells/{cell}/cell.json", "damaged", _brief(str(error), folder / "cell.json"))
    read: set[Path] = set()
    told: set[Path] = set()
    for file in row_files(folder, cell, None, tables):
        if file.path in told:
            continue
        try:
            if file.path not in read:
                read.add(file.path)
                _read_whole(file, tables, lost)
            if "images" in file.about() and not were_removed(file):
                kept_images(file)
        except StoreError as error:
            told.add(file.path)
            yield Fault(f"cells/{cell}/{file.path.name}", "damaged", _brief(str(error), file.path))


def _read_whole(file: RowFile, tables: SampleTables, lost: dict[str, list[str]]) -> None:
    """Reads a file, unless its table of samples is lost, which is noted. Raises StoreDamaged."""
    compacted = compacted_of(file)
    if compacted is None:
        file.read()
    elif tables.has(name := str(compacted.meta["samples"])):
        compacted.read()
    else:
        lost.setdefault(name, []).append(f"cells/{file.cell}/{file.path.name}")


def _brief(what: str, path: Path) -> str:
    """A message without the path that it begins with, which stands beside it."""
    return what.removeprefix(str(path)).lstrip(" ,")


def _incomplete(store: Store) -> Iterator[Fault]:
    """The cells of finished runs that have neither all their rows nor a reason why not."""
    asked: dict[str, tuple[int, str]] = {}
    for manifest in store.manifests():
        for cell in manifest.cells if manifest.finished else ():
            if not cell.undefined and cell.asked > asked.get(cell.cell, (0, ""))[0]:
                asked[cell.cell] = (cell.asked, f"{cell.scenario} {cell.severity}".strip() + f" of {cell.model}")
    for name, (count, title) in asked.items():
        rows = count_rows(store.files(name))
        if rows < count and store.failure(name) is None:
            yield Fault(f"cells/{name}", "incomplete", f"{rows:,} of {count:,} rows of {title}, though its run has finished")
