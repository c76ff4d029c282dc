"""Files of a store: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustvit.errors import StoreDamaged, StoreFull


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Raises StoreFull in place of an OSError while a file is written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"no room left to write {path}. Free some, then run the same command again: it goes on where it stopped."
            ) from error
        raise StoreFull(f"cannot write {path}: {error.strerror or error}. Give another place with --store.") from error


def replace_file(path: Path, content: bytes | memoryview, *, sync: bool = False) -> None:
    """Writes a file that appears whole or not at all: under a hidden name beside its place, then renamed. Makes its folder.

    sync: waits until the content is on disk. Raises OSError, and leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with open(draft, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file of a store as `replace_file` does, and waits until it is on disk. Raises StoreFull."""
    with on_disk(path):
        replace_file(path, content, sync=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON object as `write_bytes` does."""
    write_bytes(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises StoreDamaged where the file holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreDamaged(f"{path} cannot be read ({error}). Restore it from a copy, or delete it and run the suite again.") from error
    if not isinstance(value, dict):
        raise StoreDamaged(f"{path} does not hold a mapping. Restore it from a copy, or delete it and run the suite again.")
    return value
