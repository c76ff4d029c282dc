"""Locks that end with their process, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from robustvit.records.disk import on_disk


@contextlib.contextmanager
def leased(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock of a file for the length of a block; False while another one does."""
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()
