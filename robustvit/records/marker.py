"""The file that makes a folder a store, and names the schema of what lies there."""

from __future__ import annotations

from pathlib import Path

from robustvit.errors import StoreDamaged, StoreError, StoreTooNew
from robustvit.records.disk import below, is_draft, read_json, sweep, write_json
from robustvit.records.records import SCHEMA_VERSION


def open_marker(root: Path, *, create: bool) -> None:
    """Makes sure that a folder is a store of this schema; `create` makes it one where it is empty or not there.

    Several processes may do so at once, and any may be killed: unfinished markers count as nothing. A store whose marker was lost gets
    another. Raises StoreError where there is no store or an older robustvit wrote it, StoreTooNew where a newer one did.
    """
    marker = root / "store.json"
    if not marker.is_file():
        if not create:
            raise StoreError(f"there is no store at {root}. `robustvit run … --store {root}` makes one.")
        if _holds_something(root, marker) and not _was_a_store(root) and not marker.is_file():  # another process may have made it meanwhile
            raise StoreError(f"{root} exists and is not a store of robustvit; give an empty or a new place with --store.")
        write_json(below(root, marker.name), {"schema": SCHEMA_VERSION}, checksum=False)
        sweep(root)
    schema = read_json(marker).get("schema")
    if not isinstance(schema, int):
        raise StoreDamaged(f'{marker} does not name its schema; restore the line {{"schema": {SCHEMA_VERSION}}} if the store is yours.')
    if schema > SCHEMA_VERSION:
        raise StoreTooNew(f"the store {root} has schema {schema}; this robustvit reads {SCHEMA_VERSION}. Upgrade robustvit.")
    if schema < SCHEMA_VERSION:
        raise StoreError(
            f"the store {root} has schema {schema}; this robustvit reads {SCHEMA_VERSION}. Its rows are worth keeping: delete "
            f'{root / "runs"}, write {{"schema": {SCHEMA_VERSION}}} into {marker} and run the same commands again; nothing is '
            "computed anew."
        )


def _holds_something(root: Path, marker: Path) -> bool:
    """Whether there is a file, or a folder with more in it than unfinished markers."""
    if not root.is_dir():
        return root.exists() or root.is_symlink()
    return any(not is_draft(item, marker) for item in root.iterdir())


def _was_a_store(root: Path) -> bool:
    """Whether a folder lacks nothing of a store but its marker."""
    return (root / "cells").is_dir() and (root / "runs").is_dir()
