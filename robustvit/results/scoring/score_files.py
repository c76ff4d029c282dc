"""Files of scores in the user's cache, each named by the digest of all that its scores follow from. Never in a store.

So is what the report of a run was written of.

    <cache>/scores/<digest>.json             a line with the digest of its name and content, and the scores as JSON
    <cache>/scores/samples-<digest>.json     the same with the ids of samples that errors beside scores are of

What is not whole, or not of its name, is as if it were not there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import robustvit
from robustvit.records.disk import replace_file
from robustvit.records.user_cache import cache_folder

_MOST, _BYTES = 4000, 10**9  # files, and their size together; the least recently used are removed
_LIBRARIES = ("numpy", "pandas", "scipy")
_CODE = (".py", ".json", ".csv", ".txt", ".j2", ".css", ".js")


def read_scores(key: str) -> Any:
    """What was kept under a key; None where nothing is, or where it is not whole."""
    path = _folder() / f"{key}.json"
    try:
        written, _, text = path.read_text(encoding="utf-8").partition("\n")
        found = json.loads(text) if written == text_digest(key + text) else None
    except (OSError, ValueError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


def keep_scores(key: str, scores: Any) -> None:
    """Keeps scores, as JSON has them, under a key. Where the cache cannot be written nothing is kept."""
    folder = _folder()
    text = json.dumps(scores, separators=(",", ":"))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / f"{key}.json", f"{text_digest(key + text)}\n{text}".encode(), sync=False)
        _trim(folder)


@functools.cache
def code_digest() -> str:
    """The digest of the code that scores and pages follow from: robustvit's own files, by size and time, and versions of libraries."""
    root = Path(robustvit.__file__).parent
    files = [path for path in sorted(root.rglob("*")) if path.suffix in _CODE]
    stamps = [[path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns] for path in files if (about := path.stat())]
    return text_digest(json.dumps([stamps, [metadata.version(name) for name in _LIBRARIES]]))


def text_digest(text: str) -> str:
    """The digest of a text, by which scores and what they follow from are known."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _folder() -> Path:
    return cache_folder() / "scores"


def _trim(folder: Path) -> None:
    with os.scandir(folder) as entries:
        found = sorted(((about.st_mtime_ns, about.st_size, entry.path) for entry in entries if (about := entry.stat())), reverse=True)
    size = sum(size for _, size, _ in found)
    if len(found) <= _MOST and size <= _BYTES:
        return
    files = 0
    for at, (_, own, path) in enumerate(found):
        files += own
        if at >= _MOST * 9 // 10 or files > _BYTES * 9 // 10:
            Path(path).unlink(missing_ok=True)
