"""The folder of decoded images: where it is, what it takes, and how it is emptied."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from robustvit.errors import DataError
from robustvit.records.user_cache import cache_folder


def usage(folder: Path | None = None) -> int:
    """The bytes that decoded images take now."""
    return sum(_sizes(images_folder(folder)))


def clear(folder: Path | None = None) -> int:
    """Deletes all decoded images; returns the bytes freed. Raises DataError where they cannot be deleted."""
    freed = usage(folder)
    try:
        shutil.rmtree(images_folder(folder))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"decoded images cannot be deleted from {images_folder(folder)}: {error.strerror}.") from error
    return freed


def images_folder(folder: Path | None = None) -> Path:
    """The folder of the decoded images."""
    return (folder or cache_folder()) / "pictures"


def _sizes(images: Path) -> Iterator[int]:
    for folder, _, names in os.walk(images):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process has cleared or renamed it
                yield (Path(folder) / name).stat().st_size
