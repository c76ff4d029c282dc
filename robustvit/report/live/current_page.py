"""The report of a run, written anew only where the store or the code has changed since."""

from __future__ import annotations

import json
from pathlib import Path

from robustvit.records.listing import list_store
from robustvit.records.store import Store
from robustvit.report.page import write_report
from robustvit.results.scoring.score_files import code_digest, keep_scores, read_scores, text_digest


def write_current_report(store: Store | Path | str, path: Path) -> Path:
    """As `write_report` of a whole store, unless the file is still the one that was written of the store as it is now, by this code.

    What it was written of is kept in the user's cache. Raises as `write_report`.
    """
    place = store.path if isinstance(store, Store) else Store(store).path
    listing = list_store(place)  # before the page is made: what comes meanwhile is in the next
    key = text_digest(json.dumps([str(path.absolute()), vars(listing), code_digest()]))
    if read_scores(key) == _stamp(path) != []:
        return path
    written = write_report(store, path)
    keep_scores(key, _stamp(written))
    return written


def _stamp(path: Path) -> list[int]:
    """Size and time of a file; nothing where it is not there."""
    try:
        about = path.stat()
    except OSError:
        return []
    return [about.st_size, about.st_mtime_ns]
