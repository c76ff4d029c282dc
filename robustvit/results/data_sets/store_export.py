"""Writes a store as a data set of a format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from robustvit.records.cells import open_store
from robustvit.records.store import Store
from robustvit.results.data_sets.duckdb_file import write_duckdb_folder
from robustvit.results.data_sets.hub_folder import write_hub_folder
from robustvit.results.data_sets.stored_tables import StoredTables
from robustvit.results.table_formats import check_choice

_WRITERS = {"hf": write_hub_folder, "duckdb": write_duckdb_folder}


def export_store(
    store: Store | Path | str, to: Path | str, format: str = "hf", *, suite: str | None = None, models: Iterable[str] | None = None
) -> Path:  # fmt: skip
    """Writes the requested rows of a store into a new folder: `hf`, a data set of the Hugging Face hub, or `duckdb`, one file.

    Raises UsageError for another format and for a folder that holds something, StoreError for a suite or model that no run requested or a
    store without rows, MissingExtra without duckdb, StoreFull where there is no room.
    """
    check_choice("--format", format, list(_WRITERS))
    return _WRITERS[format](StoredTables.of(open_store(store), suite, None if models is None else list(models)), to)
