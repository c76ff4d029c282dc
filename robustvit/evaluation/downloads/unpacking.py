"""Unpacks archives of strangers: regular files and folders below one folder, and nothing else."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from robustvit.errors import DataUnreadable

Progress = Callable[[int, int, str], None]

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ZIPS = (".zip",)


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Unpacks a tar or zip archive below a folder; a file with another ending is moved there as it is.

    Raises DataUnreadable for an archive that is damaged, encrypted, or holds links, devices, or names that lead out of the folder: what was
    unpacked before the member that is refused stays, so that `folder` must be one that nobody reads yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = archive.name.lower()
    try:
        if name.endswith(_TARS):
            _unpack_tar(archive, folder, progress)
        elif name.endswith(_ZIPS):
            _unpack_zip(archive, folder, progress)
        else:
            shutil.copyfile(archive, folder / archive.name)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataUnreadable(f"{archive} is damaged: {error}.") from error


def _unpack_tar(archive: Path, folder: Path, progress: Progress | None) -> None:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            if not (member.isdir() or member.isreg()):
                kind = "a link" if member.issym() or member.islnk() else "no regular file"
                raise DataUnreadable(f"{archive}: '{member.name}' is {kind}; an archive of a data set holds files and folders only.")
            place = _place(archive, folder, member.name)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            with source, place.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            if progress is not None:
                progress(raw.tell(), archive.stat().st_size, f"unpacking {archive.name}")


def _unpack_zip(archive: Path, folder: Path, progress: Progress | None) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = packed.infolist()
        total, done = sum(one.compress_size for one in members), 0
        for member in members:
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataUnreadable(f"{archive}: '{member.filename}' is a link; an archive of a data set holds files and folders only.")
            if member.flag_bits & 1:
                raise DataUnreadable(f"{archive}: '{member.filename}' is encrypted. Unpack it with its password.")
            place = _place(archive, folder, member.filename)
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as source, place.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            done += member.compress_size
            if progress is not None:
                progress(done, total, f"unpacking {archive.name}")


def _place(archive: Path, folder: Path, name: str) -> Path:
    """Where a member goes. Raises DataUnreadable for a name that is absolute or leads upwards."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not name or name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
        raise DataUnreadable(f"{archive}: the name '{name}' leads out of the folder that the archive is unpacked in.")
    return folder.joinpath(*parts)
