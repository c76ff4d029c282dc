"""Failures of cells by the clock of their store, so that several workers of one run try a cell that fails once."""

from __future__ import annotations

import contextlib
import uuid

from robustvit.records.disk import below, on_disk
from robustvit.records.store import Store


def store_clock(store: Store) -> float:
    """The time of the file system that a store is on, seconds since 1970: when a file is last changed that is written now.

    Of a store in object storage, the time of the service. Raises StoreFull where none can be written, StoreError where it does not answer.
    """
    if store.mirror is not None:
        return store.mirror.place.clock()
    path = below(store.path, "leases", f"{uuid.uuid4().hex}.clock.lock")  # swept as a lock that nobody holds
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        try:
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)


def failed_since(store: Store, cell: str, since: float) -> str | None:
    """Why a cell failed at a time of `store_clock` or later; None where it did not, or failed before."""
    with contextlib.suppress(FileNotFoundError):
        if below(store.path, "cells", cell, "failure.json").stat().st_mtime >= since:
            return store.failure(cell)
    return None
