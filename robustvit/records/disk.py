"""Files that appear whole or not at all, and JSON that knows whether it is what was written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from robustvit.errors import StoreDamaged, StoreError, StoreFull
from robustvit.records.remote.mirrored import mirrored_by
from robustvit.spec.given import why_not_small

if sys.platform != "win32":
    import fcntl

_CHECKSUM = "checksum"  # the key of a JSON object that holds the digest of the others
_LARGEST_JSON = 1 << 30  # bytes; a manifest of a hundred thousand cells has 80 million
_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{32}")
# what lies in a store:
OF_STORES = {"store.json", "verified.json", "cells", "runs", "samples", "learned", "environments", "leases", "ids", "workers"}
_STREAMS = ("/dev/", "/proc/")  # places whose files are never replaced, whatever they are


@contextlib.contextmanager
def on_disk(path: Path, option: str = "--store") -> Iterator[None]:
    """Raises StoreFull in place of an OSError while a file is written. option: names the place; what is not a store's does not go on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            resumed = ": it goes on where it stopped" if option == "--store" else ""
            raise StoreFull(f"no room left to write {path}. Free some, then run the same command again{resumed}.") from error
        raise StoreFull(f"cannot write {path}: {error.strerror or error}. Give another place with {option}.") from error


def replace_file(path: Path, content: bytes | memoryview, *, sync: bool = False) -> None:
    """Writes a file that appears whole or not at all: under a hidden name beside its place, then renamed. Makes its folder.

    sync: waits until the content is on disk. Raises OSError, and leaves nothing behind; what a killed process leaves, `sweep` removes.
    """
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), path.parents))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _written(path, content, sync):
            pass  # another process swept the finished draft before it had its name: it is written once more
    except OSError:
        with contextlib.suppress(OSError):  # something else is in it now
            for folder in missing:
                folder.rmdir()
        raise


def _written(path: Path, content: bytes | memoryview, sync: bool) -> bool:
    """Writes a draft and renames it; False where another process removed it in between."""
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with open(draft, "wb") as file:
            _hold(file)
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        return _renamed(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _renamed(draft: Path, path: Path) -> bool:
    try:
        os.replace(draft, path)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        return False
    return True


def sweep(folder: Path, of: str = "", ending: str = "") -> None:
    """Removes the drafts in a folder whose writers were killed. Those that another process writes now stay.

    of: only drafts of the file of that name. ending: of other files that nobody needs unless a process holds their lock. A folder that is
    not there, or that may not be changed, stays as it is.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        names = [one.name for one in found if one.is_file(follow_symlinks=False)]
        for name in names:
            draft = _DRAFT.fullmatch(name)
            if (draft and of in ("", draft[1])) or (ending and name.endswith(ending)):
                _remove_unless_held(folder / name)


def _remove_unless_held(path: Path) -> None:
    with contextlib.suppress(OSError):
        if sys.platform != "win32":  # there a file that is open cannot be removed
            with open(path, "rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        else:
            path.unlink()


def _hold(file: BinaryIO) -> None:
    """Keeps other processes from sweeping a draft while it is written, where the file system has locks."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def is_hidden(name: str) -> bool:
    """Whether a name is one of drafts, which are no files of a store."""
    return name.startswith(".")


def is_draft(other: Path, path: Path) -> bool:
    """Whether a file is an unfinished one of `replace_file(path)`."""
    found = _DRAFT.fullmatch(other.name)
    return found is not None and found[1] == path.name


def write_output(path: Path, content: bytes) -> None:
    """Writes a file that a user named: a device, a pipe or what they stand for is written to, any other file is replaced whole.

    A link is followed, and stays a link. What was left of the file by killed processes is removed. Raises OSError, and StoreError for a
    place among the files of a store.
    """
    if (path.exists() and not path.is_file()) or str(path.absolute()).startswith(_STREAMS):
        with open(path, "ab") as stream:
            stream.write(content)
        return
    place = path.resolve()
    for root in place.parents:
        if place.relative_to(root).parts[0] in OF_STORES and (root / "store.json").exists():
            raise StoreError(f"{path} is among the files of the store {root}, which only runs write. Give another place.")
    sweep(place.parent, of=place.name)
    replace_file(place, content)


def below(root: Path, *parts: str) -> Path:
    """The path of something to be written below a folder, which may itself be a link.

    Raises StoreError where a link would lead the write elsewhere.
    """
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise StoreError(
                f"{path} is a link to {os.readlink(path)}; nothing is written through links inside a store. Put the files themselves there."
            )
    return path


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file of a store as `replace_file` does, and waits until it is on disk. Raises StoreFull."""
    mirrored = mirrored_by(path)
    if mirrored is not None:
        mirrored.write(path, content)
    with on_disk(path):
        replace_file(path, content, sync=mirrored is None)
    if mirrored is not None:
        mirrored.written(path)
        return
    with on_disk(path):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: dict[str, Any], *, checksum: bool = True) -> None:
    """Writes a JSON object as `write_bytes` does. checksum: with its digest inside, for files whose names say nothing of their content."""
    write_bytes(path, json_bytes({**value, _CHECKSUM: _digest(value)} if checksum else value))


def folder_stamps(folder: Path) -> dict[str, list[int]]:
    """The files in a folder by name, in order: size, and time of the last change in nanoseconds. Empty where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = {one.name: one.stat() for one in entries}
    except FileNotFoundError:
        return {}
    return {name: [about.st_size, about.st_mtime_ns] for name, about in sorted(found.items())}


def remove(path: Path) -> None:
    """Removes a file of a store, where it is there. Raises StoreFull where that is not allowed."""
    if (mirrored := mirrored_by(path)) is not None:
        mirrored.remove(path)
    with on_disk(path):
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames a damaged file of a store, so that it is made anew; returns its new name. Raises StoreFull where that is not allowed."""
    target = path.with_suffix(".damaged")
    if (mirrored := mirrored_by(path)) is not None:
        mirrored.write(target, path.read_bytes())
        mirrored.remove(path)
    with on_disk(path):
        os.replace(path, target)
    return target


def json_bytes(value: dict[str, Any]) -> bytes:
    """The content of a JSON file."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, without its checksum. Raises StoreDamaged where the file holds none, or not the one that was written."""
    hint = "Restore it from a copy, or delete it and run the suite again."
    if why := why_not_small(path, _LARGEST_JSON):
        raise StoreDamaged(f"{path} {why}. {hint}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path} cannot be read ({error}). {hint}") from error
    if not isinstance(value, dict):
        raise StoreDamaged(f"{path} does not hold a mapping. {hint}")
    written = value.pop(_CHECKSUM, None)
    if written is not None and written != _digest(value):
        raise StoreDamaged(f"{path} is not what was written there: its checksum differs. {hint}")
    return value


def content_digest(content: bytes | memoryview) -> str:
    """20 hex digits of sha256, as names of files carry them."""
    return hashlib.sha256(content).hexdigest()[:20]


def _digest(value: dict[str, Any]) -> str:
    return content_digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
