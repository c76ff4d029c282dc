"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from robustvit.errors import UsageError
from robustvit.records.disk import on_disk
from robustvit.records.upkeep.places import refuse_inside_store
from robustvit.spec.given import check_path


@contextlib.contextmanager
def whole_folder(place: Path | str, option: str) -> Iterator[Path]:
    """A folder to write into, which gets its name at the end of the block; nothing is left where the block raises.

    Raises UsageError for a place that holds something, or that is among the files of a store, StoreFull where it cannot be written.
    """
    folder = check_path(place, option).absolute()
    if (folder.exists() or folder.is_symlink()) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{option}: {folder} is there already; give an empty or a new place.")
    refuse_inside_store(folder, option)
    draft = folder.with_name(f".{folder.name}.unfinished")
    missing = list(itertools.takewhile(lambda one: not one.exists(), draft.parents))
    try:
        with on_disk(folder, option):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            yield draft
            os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder is in it
            for one in missing:
                one.rmdir()
