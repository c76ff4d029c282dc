"""What nothing in a store names any more: cells of no manifest, files beside rows that are gone, and what was set aside as damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.compacted.cell_files import compacted_of
from robustvit.records.disk import below, remove, write_bytes
from robustvit.records.images import image_places, removal_of
from robustvit.records.manifest_files import run_manifests
from robustvit.records.sharing.leases import leased
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store
from robustvit.records.upkeep.file_kinds import files_below, kind_of
from robustvit.spec.cell import artifact_id, learned_id

_OF_CELLS = ("description", "failure", "rows", "lists", "images", "removal", "gallery")
_KEPT_IMAGES = "images that an attack left; a run that has use for them makes them anew"


class Garbage(NamedTuple):
    """A file that nothing names. place: below the store; why: of what it is a remainder; size: bytes."""

    place: str
    why: str
    size: int


def garbage(store: Store, *, images: bool = False) -> list[Garbage]:
    """The files of a store that nothing names. Nothing is changed.

    images: also those that attacks left of their rows, which a run that has use for them makes anew. Raises StoreDamaged where a
    manifest or a file of rows cannot be read, which may name them, and StoreError while a process computes.
    """
    manifests, damage = run_manifests(store.path)
    if damage is not None:
        raise StoreDamaged(f"{damage} What it names is not known, so nothing is removed.")
    if not manifests:
        raise StoreError(f"no run of the store {store.path} has a manifest: nothing tells which cells are to stay, so nothing is removed.")
    _refuse_at_work(store)
    named = {cell.cell for manifest in manifests for cell in manifest.cells}
    found = [Garbage(*one) for one in _found(store, named, images)]
    return sorted(found)


def collect(store: Store, *, images: bool = False) -> list[Garbage]:
    """Removes the `garbage` of a store; what it was. Raises as that does, and StoreFull where a file cannot be removed."""
    found = garbage(store, images=images)
    for one in found:
        path = below(store.path, *Path(one.place).parts)
        if one.why == _KEPT_IMAGES:
            write_bytes(removal_of(path), b"")
        remove(path)
        if path.parent.parent == store.path / "cells":
            with contextlib.suppress(OSError):  # it holds more
                path.parent.rmdir()
    sweep_store(store.path)
    for cell in store.cells():
        sweep_cell(store.path, cell)
    return found


def _refuse_at_work(store: Store) -> None:
    for path in sorted((store.path / "leases").glob("*.lock")):
        with leased(below(store.path, "leases", path.name)) as mine:
            if not mine:
                raise StoreError(f"a process computes cells of the store {store.path} now ({path.name}). Wait until it has ended.")


def _found(store: Store, named: set[str], images: bool) -> Iterator[tuple[str, str, int]]:
    tables: set[str] = set()
    artifacts: set[str] = set()
    beside: dict[str, set[str]] = {}
    for cell in sorted(named & set(store.cells())):
        beside[cell] = _beside(store, cell, tables)
        with contextlib.suppress(StoreDamaged):
            artifacts |= _artifacts(store.describe(cell))
    for path in files_below(store.path):
        kind, cell = kind_of(store.path, path), path.parent.name
        why = ""
        if kind == "set aside":
            why = "set aside as damaged"
        elif kind in _OF_CELLS and cell not in named:
            why = "its cell is of no manifest"
        elif kind in ("lists", "images") and path.name not in beside.get(cell, ()):
            why = "the rows that it was beside are gone"
        elif kind == "removal" and path.with_suffix(".safetensors").name not in beside.get(cell, ()):
            why = "the rows whose images it says were removed are gone"
        elif kind == "images" and images:
            why = _KEPT_IMAGES
        elif kind == "samples" and path.stem not in tables:
            why = "no compacted cell names it"
        elif kind == "artifact" and path.stem.partition("-")[0] not in artifacts:
            why = "no cell was fitted with it"
        if why:
            yield path.relative_to(store.path).as_posix(), why, path.stat().st_size


def _beside(store: Store, cell: str, tables: set[str]) -> set[str]:
    """The names of files beside the rows of a cell. tables: those that they name are added."""
    found: set[str] = set()
    for file in store.files(cell):
        compacted = compacted_of(file)
        if compacted is not None:
            tables.add(str(compacted.meta["samples"]))
            found |= {lists.name} if (lists := compacted.lists_path()) else set()
        found |= {place.name for place in image_places(file)}
    return found


def _artifacts(description: dict[str, object]) -> set[str]:
    steps = description.get("transforms")
    return {artifact_id(description), *(learned_id(description, place) for place in range(len(steps) if isinstance(steps, list) else 0))}
