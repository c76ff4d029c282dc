"""Downloads what a data set lacks: one process at a time, verified, unpacked whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from robustvit.errors import DataError
from robustvit.evaluation.downloads.declared import Download
from robustvit.evaluation.downloads.http_file import Progress, fetch_file
from robustvit.evaluation.downloads.pending import Pending
from robustvit.evaluation.downloads.placing import note, place, placed_downloads
from robustvit.evaluation.downloads.sources import fetch_repository, files_of
from robustvit.evaluation.downloads.unpacking import unpack

Notify = Callable[[str], None]

_STAGE = ".robustvit-downloads"  # beside the folder of a data set: archives that are not whole yet, and what they unpack to
_BLOCK = 1 << 20
_MARGIN = 64 << 20  # bytes that stay free


def fetch_pending(pending: Pending, progress: Progress | None = None, notify: Notify | None = None) -> int:
    """Fetches, verifies and unpacks what a data set lacks; returns how many downloads it brought.

    progress: called with bytes done, bytes in all and what is done. notify: called with sentences for the user. Where another process
    fetches the same data set, waits for it, and fetches nothing that it brought. Raises DataError where there is too little room, a server
    refuses, or a file is not the published one; DataUnreadable for an archive that cannot be unpacked. The same call continues.
    """
    tell = notify or (lambda _: None)
    folder = pending.folder
    stage = _stage(folder)
    try:
        with _alone(stage, folder.name, tell):
            held = placed_downloads(folder)
            lacking = [one for one in pending.lacking if one.url not in held]
            _refuse_little_room(stage, _needed(stage, lacking))
            for one in lacking:
                _fetch(one, folder, stage, progress, tell)
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"data '{pending.entry.name}' cannot be written below {folder.parent}: {reason}. What arrived is kept.") from error
    return len(lacking)


def _fetch(one: Download, folder: Path, stage: Path, progress: Progress | None, tell: Notify) -> None:
    """One download, into the folder of its data set."""
    unpacked = stage / "unpacked"
    if one.repository:
        fetch_repository(one, stage / "repository")
        place(stage / "repository", folder, one.url, {})
        return
    files = files_of(one)
    for file in files:
        if file.url in placed_downloads(folder):
            continue
        archive = stage / file.file
        about = _fetch_whole(file, archive, progress, tell)
        shutil.rmtree(unpacked, ignore_errors=True)
        _refuse_little_room(stage, archive.stat().st_size)
        unpack(archive, unpacked / file.into, progress)
        place(unpacked, folder, file.url, about)
        archive.unlink()
    if one.url != files[0].url:
        note(folder, one.url, {"files": len(files)})


def _fetch_whole(file: Download, archive: Path, progress: Progress | None, tell: Notify) -> dict[str, Any]:
    """Fetches a file and verifies it; it has its name only when that is done. Returns what is recorded of it."""
    part = archive.with_name(archive.name + ".part")
    if not archive.is_file():
        fetch_file(file.url, part, size=file.size, progress=progress)
    name, digits = file.checksum or ("sha256", "")
    found = _digest(archive if archive.is_file() else part, name, progress)
    if digits and found != digits:
        for path in (part, archive):
            path.unlink(missing_ok=True)
        raise DataError(
            f"{file.url}: the {name} of what arrived is {found}, and {digits} is published"
            f"{f' ({file.source})' if file.source else ''}. It was deleted; the same command fetches it anew."
        )
    if not digits:
        tell(f"{file.file}: no checksum is published; the sha256 of what arrived is {found}.")
    if part.is_file():
        part.rename(archive)
    part.with_name(part.name + ".version").unlink(missing_ok=True)
    return {"file": file.file, "bytes": archive.stat().st_size, name: found}


def _digest(path: Path, algorithm: str, progress: Progress | None) -> str:
    running, total = hashlib.new(algorithm, usedforsecurity=False), path.stat().st_size
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            running.update(block)
            if progress is not None:
                progress(source.tell(), total, f"verifying {path.name.removesuffix('.part')}")
    return running.hexdigest()


def _stage(folder: Path) -> Path:
    """The folder of what is not whole yet, on the same disk as that of the data set, so that it can be renamed."""
    real = folder.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    other_disk = real.is_dir() and real.stat().st_dev != real.parent.stat().st_dev
    return (real if other_disk else real.parent) / _STAGE / real.name


@contextlib.contextmanager
def _alone(stage: Path, name: str, tell: Notify) -> Iterator[None]:
    """Holds the lock of a data set for the length of a block; waits while another process fetches it."""
    stage.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(stage.with_name(f"{stage.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        tell(f"Another process fetches {name}; waiting for it.")
        lock.acquire()
    try:
        stage.mkdir(parents=True, exist_ok=True)  # the other process has deleted its own
        yield
    finally:
        lock.release()


def _needed(stage: Path, lacking: list[Download]) -> int:
    """The bytes that the files take unpacked, with the largest archive beside them: images unpack to about the size of their archive."""
    sizes = [one.size for one in lacking if one.size is not None]
    here = sum(path.stat().st_size for path in stage.iterdir() if path.is_file())
    return max(0, sum(sizes) + max(sizes, default=0) - here)


def _refuse_little_room(stage: Path, needed: int) -> None:
    """Raises DataError where the disk has less room than that."""
    free = shutil.disk_usage(stage).free
    if free < needed + _MARGIN:
        raise DataError(f"{stage.parent.parent} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed to fetch and unpack.")
