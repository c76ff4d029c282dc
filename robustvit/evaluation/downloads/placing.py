"""Moves unpacked files into the folder of a data set, and keeps account of which downloads it holds whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robustvit.errors import DataError

_ACCOUNT = ".robustvit-download.json"
_PLACING = "placing"


def placed_downloads(folder: Path) -> dict[str, Any]:
    """What a folder holds whole: {address: {file, bytes, sha256 or md5}}, nothing where nothing was downloaded into it."""
    return {url: about for url, about in _account(folder).items() if url != _PLACING}


def is_placing(folder: Path, url: str) -> bool:
    """Whether an earlier process was killed while it moved the files of this download into the folder."""
    return bool(_account(folder).get(_PLACING) == url)


def place(unpacked: Path, folder: Path, url: str, about: dict[str, Any]) -> None:
    """Moves what one download unpacked to into the folder of its data set, with the account of it.

    A folder that does not exist yet appears whole, by one rename. Into an existing one whole subfolders are renamed; a process that is
    killed in between continues with the same files the next time. Raises DataError for a file that is there and came from elsewhere.
    """
    if not folder.exists():
        _write(unpacked, {url: about})
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpacked.rename(folder)
        return
    again = is_placing(folder, url)
    _write(folder, {**_account(folder), _PLACING: url})
    _merge(unpacked, folder, again)
    note(folder, url, about)


def note(folder: Path, url: str, about: dict[str, Any]) -> None:
    """Records that a folder holds a download whole."""
    _write(folder, {**placed_downloads(folder), url: about})


def _merge(source: Path, target: Path, again: bool) -> None:
    for item in sorted(source.iterdir()):
        place = target / item.name
        if place.is_dir() and item.is_dir():
            _merge(item, place, again)
        elif place.exists() and not again:
            raise DataError(f"{place} is already there and is not of this download; move it away, or fetch into another folder.")
        else:
            os.replace(item, place)


def _account(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _ACCOUNT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, account: dict[str, Any]) -> None:
    whole = folder / f"{_ACCOUNT}.new"
    whole.write_text(json.dumps(account, indent=1), encoding="utf-8")
    os.replace(whole, folder / _ACCOUNT)
