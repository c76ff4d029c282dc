"""Locks that end with their process, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from robustvit.records.disk import on_disk
from robustvit.records.remote.mirror import Mirror
from robustvit.records.remote.mirrored import mirrored_by
from robustvit.records.remote.remote_leases import remote_lease


@contextlib.contextmanager
def leased(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock of a file for the length of a block; False while another one does.

    Raises StoreFull where there is no room for the file, or no right to make it.
    """
    if (place := object_lease(path)) is not None:
        with place as mine:
            yield mine
        return
    lock = filelock.FileLock(path)
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = _acquired(lock)
    if not mine:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):  # the lock is what counts; the next run sweeps the file
            path.unlink(missing_ok=True)
        lock.release()


def object_lease(path: Path) -> contextlib.AbstractContextManager[bool] | None:
    """The lease of that name in object storage, where the file is below the mirror of a store there; None elsewhere."""
    mirror = mirrored_by(path)
    if not isinstance(mirror, Mirror):
        return None
    return remote_lease(mirror.place, path.relative_to(mirror.folder).as_posix())


def _acquired(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True
