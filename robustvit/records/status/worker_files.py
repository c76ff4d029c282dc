"""Who computes into a store: a small file for each process, renewed while it lives; what a killed one leaves expires.

A file is as old as the store's own clock says (`store_time`): clocks of other machines may be wrong by any amount.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from robustvit.errors import StoreError
from robustvit.records.disk import below, json_bytes, replace_file, sweep
from robustvit.records.remote.mirrored import mirrored_by

EXPIRY = 120.0  # seconds since it was last renewed, after which a file is of a process that was killed
_FOLDER = "workers"
_NAME = re.compile(r"[0-9a-f]{32}\.json")
_LARGEST = 1 << 16  # bytes; one has about 300
_LONGEST = 500  # characters of a text
_MOST_ROWS = 1 << 60


class RunningWorker(NamedTuple):
    """A process that computes into a store.

    rows: how many it has computed; since, renewed: when it began and when it was last heard of, in seconds since 1970 by the store's clock.
    """

    host: str
    process: int
    device: str
    computes: str
    rows: int
    since: float
    renewed: float


def store_time(root: Path) -> float:
    """Now by the clock of the file system that a store is on, in seconds since 1970: the time of a file that is made for it, and gone.

    Where no file can be made, this machine's clock, and not before the newest file of a worker.
    """
    if (mirrored := mirrored_by(root / _FOLDER)) is not None:
        return mirrored.now()
    try:
        with tempfile.TemporaryFile(dir=root, prefix=".clock.", suffix=f".{uuid.uuid4().hex}") as file:  # named as drafts are: swept
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return max([time.time(), *(about.st_mtime for _, about in _files(root))])


def running_workers(root: Path, now: float) -> list[RunningWorker]:
    """The processes that compute into a store, by host and time; those whose file is `EXPIRY` from now, in either direction, are not."""
    found = []
    for path, about in _files(root):
        if abs(now - about.st_mtime) <= EXPIRY and (known := _read(path, about)) is not None:
            found.append(known)
    return sorted(found, key=lambda one: (one.host, one.since, one.process))


def write_worker(root: Path, name: str, facts: dict[str, Any]) -> None:
    """Writes or renews the file of a process, whole or not at all. It fails no run: where that cannot be done, nothing happens."""
    with contextlib.suppress(OSError, StoreError):
        path, content = below(root, _FOLDER, f"{name}.json"), json_bytes(facts)
        if (mirrored := mirrored_by(path)) is not None:
            mirrored.write(path, content)
        replace_file(path, content)
        if mirrored is not None:
            mirrored.written(path)


def remove_worker(root: Path, name: str) -> None:
    """Removes the file of a process, and the folder after the last one. What cannot be removed stays."""
    with contextlib.suppress(OSError, StoreError):
        path = below(root, _FOLDER, f"{name}.json")
        if (mirrored := mirrored_by(path)) is not None:
            mirrored.remove(path)
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def sweep_workers(root: Path) -> None:
    """Removes the files of processes that were killed, and unfinished ones."""
    with contextlib.suppress(OSError, StoreError):
        folder = below(root, _FOLDER)
        sweep(folder)
        files = list(_files(root))
        now = store_time(root) if files else 0.0
        for path, about in files:
            if abs(now - about.st_mtime) > EXPIRY:
                path.unlink(missing_ok=True)
        folder.rmdir()


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files of workers that are there, with what the file system knows of them."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(root / _FOLDER)):
            with contextlib.suppress(OSError):  # it has gone since
                about = os.lstat(root / _FOLDER / name)
                if _NAME.fullmatch(name) and stat.S_ISREG(about.st_mode) and about.st_size <= _LARGEST:
                    yield root / _FOLDER / name, about


def _read(path: Path, about: os.stat_result) -> RunningWorker | None:
    """What a file says; None where it is not one that a worker wrote, or has gone."""
    try:
        facts = json.loads(path.read_bytes())
        host, device, computes = (str(facts[key])[:_LONGEST] for key in ("host", "device", "computes"))
        process, rows, seconds = int(facts["process"]), int(facts["rows"]), float(facts["seconds"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    if not 0 <= process <= _MOST_ROWS or not 0 <= rows <= _MOST_ROWS or not 0.0 <= seconds < math.inf:
        return None
    return RunningWorker(host, process, device, computes, rows, about.st_mtime - seconds, about.st_mtime)
