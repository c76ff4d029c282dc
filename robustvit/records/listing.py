"""The files of a store at one moment, by name, size and time: one walk, in which none of them is read."""

from __future__ import annotations

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
    place = os.path.join(root, "cells", "")  # strings: a store has a hundred thousand cells, and their paths would take most of the time
    return Listing(
        tuple(one for one in _files(str(root)) if one.name == "store.json"),
        _files(os.path.join(root, "runs")),
        _files(os.path.join(root, "environments")),
        {name: _files(place + name) for name in sorted(_entries(place))},
    )


def _entries(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []


def _files(folder: str) -> Files:
    """The files of a folder by name, without drafts, whose names are hidden."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    try:
                        about = entry.stat()
                    except OSError:  # it has gone since
                        continue
                    found.append(ListedFile(entry.name, about.st_size, about.st_mtime_ns))
    except OSError:  # there is none, or it goes
        pass
    found.sort()
    return tuple(found)
