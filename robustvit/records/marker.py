"""The file that makes a folder a store, and names the schema of what lies there."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from robustvit.errors import StoreDamaged, StoreError, StoreTooNew
from robustvit.records.compacted.sample_tables import FOLDER
from robustvit.records.disk import below, is_draft, read_json, sweep, write_json
from robustvit.records.records import COMPACTED_SCHEMA, SCHEMA_VERSION

log = logging.getLogger(__name__)

_SHOWN = re.compile(rb'"schema"\s*:\s*(\d{1,9})')
_LENGTH = 1000  # bytes of a damaged marker that are looked at; a whole one has 13


def open_marker(root: Path, *, create: bool) -> None:
    """Makes sure that a folder is a store of a schema that is read here; `create` makes it one where it is empty or not there.

    Several processes may do so at once, and any may be killed: unfinished markers count as nothing. `create` gives a store whose marker was
    lost or damaged another, because it says nothing but the schema. Raises StoreError where there is no store or an older robustvit wrote
    it, StoreTooNew where a newer one did, StoreDamaged where the marker is damaged and may not be written anew.
    """
    marker = root / "store.json"
    if not marker.is_file():
        if not create:
            raise StoreError(f"there is no store at {root}. `robustvit run … --store {root}` makes one.")
        _refuse_something_else(root, marker)
        write_json(below(root, marker.name), {"schema": _needed(root)}, checksum=False)
        sweep(root)
    schema = _schema(marker)
    if schema is None:
        if not create or not _was_a_store(root):
            raise StoreDamaged(_damage(root, marker))
        write_json(below(root, marker.name), {"schema": _needed(root)}, checksum=False)
        log.error("%s was damaged and has been written anew; the rows of the store stay.", marker)
        return
    if schema > COMPACTED_SCHEMA:
        raise StoreTooNew(
            f"the store {root} has schema {schema}; this robustvit reads {SCHEMA_VERSION} and {COMPACTED_SCHEMA}. Upgrade robustvit."
        )
    if schema < SCHEMA_VERSION:
        raise StoreError(
            f"the store {root} has schema {schema}; this robustvit reads {SCHEMA_VERSION}. Its rows are worth keeping: delete "
            f'{root / "runs"}, write {{"schema": {SCHEMA_VERSION}}} into {marker} and run the same commands again; nothing is '
            "computed anew."
        )
    if create and schema < _needed(root):  # an uncompacted store was copied over a compacted one
        mark_compacted(root)


def mark_compacted(root: Path) -> None:
    """Gives a store the schema of one with compacted cells, which an earlier robustvit refuses. Raises StoreFull."""
    if _schema(root / "store.json") != COMPACTED_SCHEMA:
        write_json(below(root, "store.json"), {"schema": COMPACTED_SCHEMA}, checksum=False)


def _needed(root: Path) -> int:
    """The schema of what lies in a folder: a store without compacted cells is read by earlier versions, too."""
    return COMPACTED_SCHEMA if (root / FOLDER).is_dir() else SCHEMA_VERSION


def is_there_yet(root: Path) -> bool:
    """Whether there is a store, of whatever schema; False where a run can still make one, of nothing or an empty folder.

    Raises StoreError where something else is in its place, or where no folder can be made.
    """
    marker = root / "store.json"
    try:
        if marker.is_file():
            return True
        _refuse_something_else(root, marker)
        above = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
        if not above.is_dir():
            raise StoreError(f"there is no store at {root}, and none can be made: {above} is no folder.")
    except OSError as error:
        raise StoreError(f"the store {root} cannot be read: {error.strerror or error}.") from error
    return False


def _refuse_something_else(root: Path, marker: Path) -> None:
    """Raises StoreError for what is neither a store nor an empty place."""
    if _holds_something(root, marker) and not _was_a_store(root) and not marker.is_file():  # another process may have made it meanwhile
        raise StoreError(f"{root} exists and is not a store of robustvit; give an empty or a new place with --store.")


def _schema(marker: Path) -> int | None:
    """The schema that a marker names, also where it is damaged but still shows a newer one; None where it names none.

    Raises StoreDamaged where it cannot be read.
    """
    try:
        schema = read_json(marker).get("schema")
    except StoreDamaged as damage:
        try:
            with marker.open("rb") as file:
                shown = _SHOWN.search(file.read(_LENGTH))
        except OSError:  # it may be whole
            raise damage from None
        return int(shown[1]) if shown and int(shown[1]) > COMPACTED_SCHEMA else None
    return schema if isinstance(schema, int) and not isinstance(schema, bool) else None


def _damage(root: Path, marker: Path) -> str:
    """What to do about a damaged marker."""
    line = f'{{"schema": {_needed(root)}}}'
    if _was_a_store(root):
        return (
            f"{marker} is damaged, and does not name the schema of the store. Nothing else is lost: `robustvit run … --store {root}` "
            f"writes it anew; or write {line} into it."
        )
    return (
        f"{marker} does not name a schema, and {root} holds no cells and runs of a store. Write {line} into it if the store is yours, "
        "delete it if it is nobody's, or give another place with --store."
    )


def _holds_something(root: Path, marker: Path) -> bool:
    """Whether there is a file, or a folder with more in it than unfinished markers."""
    if not root.is_dir():
        return root.exists() or root.is_symlink()
    return any(not is_draft(item, marker) for item in root.iterdir())


def _was_a_store(root: Path) -> bool:
    """Whether a folder lacks nothing of a store but its marker."""
    return (root / "cells").is_dir() and (root / "runs").is_dir()
