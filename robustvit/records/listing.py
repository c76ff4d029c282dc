"""The files of a store at one moment, by name, size and time: one walk, in which none of them is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class ListedFile(NamedTuple):
    """A file of a store. size: bytes; changed: nanoseconds since 1970."""

    name: str
    size: int
    changed: int


Files = tuple[ListedFile, ...]


@dataclass(frozen=True)
class Listing:
    """What tables, reports and the progress of runs are made of. Two listings are equal where no file has come, gone or changed.

    marker: what makes the folder a store; cells: files by the id of the cell. Drafts, leases and what runs keep for themselves are left
    out.
    """

    marker: Files = ()
    runs: Files = ()
    environments: Files = ()
    cells: Mapping[str, Files] = field(default_factory=dict)


def list_store(root: Path) -> Listing:
    """The files of a store now; none where there is no store. What other processes add or remove meanwhile is there or not."""
    names = sorted(_entries(root / "cells"))
    return Listing(
        tuple(one for one in _files(root) if one.name == "store.json"),
        _files(root / "runs"),
        _files(root / "environments"),
        {name: _files(root / "cells" / name) for name in names},
    )


def _entries(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    return []


def _files(folder: Path) -> Files:
    """The files of a folder by name, without drafts, whose names are hidden."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                with contextlib.suppress(OSError):  # it has gone since
                    about = entry.stat()
                    found.append(ListedFile(entry.name, about.st_size, about.st_mtime_ns))
    return tuple(sorted(found))
