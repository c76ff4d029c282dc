"""The files of a store that hold manifests, read and checked."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from robustvit.errors import StoreDamaged, UsageError, few
from robustvit.records.disk import read_json
from robustvit.records.manifest import Manifest
from robustvit.spec.spec import parse, revive

_CELL = re.compile(r"[0-9a-f]{20}")


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises StoreDamaged where there is none, or not the one that was written."""
    try:
        about = path.stat()
    except OSError:
        return _read_as_it_is(path)
    return _read(path, Path.cwd(), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read(path: Path, beside: Path, size: int, changed: int) -> Manifest:
    """The manifest in a file of that size and time of the last change, which is read once. beside: the folder that a path starts from."""
    return _read_as_it_is(path)


def _read_as_it_is(path: Path) -> Manifest:
    try:
        found = Manifest.of_json(read_json(path))
        for cell in found.cells:
            if not _CELL.fullmatch(cell.cell):
                raise TypeError(f"the id of a cell is {cell.cell[:60]!r}")  # it is the name of a folder
            if cell.data_fingerprint not in found.data:
                raise TypeError(f"its data do not name {cell.data_fingerprint[:60]!r}, which the cell {cell.cell} is of")
        if not found.suite.metrics:
            raise TypeError("its suite has no metrics")
        for node in found.suite.metrics:
            parse(revive(node))
    except (LookupError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise StoreDamaged(
            f"{path} is no manifest of a run ({error}). Restore it from a copy, or delete it and run the suite again."
        ) from error
    return found


class ManifestFiles(NamedTuple):
    """The manifests of a folder, oldest first, and what is damaged there: None where every file holds one."""

    manifests: list[Manifest]
    damage: StoreDamaged | None


def run_manifests(root: Path) -> ManifestFiles:
    """The manifests of a store, and what is damaged among them."""
    return read_manifests(root / "runs")


def read_manifests(folder: Path) -> ManifestFiles:
    """The manifests in a folder of a store; the files that hold none are named in one message."""
    found, damages = [], {}
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_manifest(path))
        except StoreDamaged as error:
            damages[path.name] = error
    return ManifestFiles(sorted(found, key=lambda manifest: (manifest.started, manifest.id)), _together(folder, damages))


def _together(folder: Path, damages: Mapping[str, StoreDamaged]) -> StoreDamaged | None:
    if len(damages) < 2:
        return next(iter(damages.values()), None)
    return StoreDamaged(
        f"{len(damages)} manifests in {folder} are damaged: {few(list(damages))}. Cells that no other one names are left out. Restore "
        "them from a copy, or delete them and run their suites again."
    )
