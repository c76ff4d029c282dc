"""Places that nothing is written into but the files of a store."""

from __future__ import annotations

from pathlib import Path

from robustvit.errors import UsageError
from robustvit.records.store import Store


def refuse_inside_store(folder: Path, option: str) -> None:
    """Raises UsageError for a folder among the files of a store, links followed; the store's own folder is none of them."""
    for root in folder.resolve().parents:
        if Store.is_at(root):
            raise UsageError(f"{option}: {folder} is inside the store {root}, which only runs write. Give another place.")
