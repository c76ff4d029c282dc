"""Removes what killed processes left unfinished: drafts of files, and in a store locks that nobody holds and workers that are gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from robustvit.errors import StoreError
from robustvit.records.disk import below, sweep
from robustvit.records.status.worker_files import sweep_workers


def sweep_store(root: Path) -> None:
    """Sweeps a store but for the folders of its cells: a run sweeps those of its own, see `sweep_cell`."""
    for name in ("", "runs", "environments", "learned", "ids"):
        _sweep(root, *filter(None, [name]))
    samples = root / "samples"
    for folder in sorted(samples.iterdir()) if samples.is_dir() else []:
        _sweep(root, "samples", folder.name)
    _sweep(root, "leases", ending=".lock")
    sweep_workers(root)


def sweep_cell(root: Path, cell: str) -> None:
    """Sweeps the folder of a cell."""
    _sweep(root, "cells", cell)


def sweep_tree(root: Path, folders: Iterable[str]) -> None:
    """Sweeps a folder, and some of those in it with all that lies below them."""
    sweep(root)
    for name in folders:
        for place, _, _ in os.walk(root / name):
            sweep(Path(place))


def _sweep(root: Path, *parts: str, ending: str = "") -> None:
    with contextlib.suppress(StoreError):  # nothing is changed through a link inside a store
        sweep(below(root, *parts), ending=ending)
