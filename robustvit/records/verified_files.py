"""Which files of a store were read whole and found to be what was written, so that a run need not read them again."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from robustvit.errors import StoreDamaged
from robustvit.records.disk import below, read_json, write_json

_NAME = "verified.json"


class VerifiedFiles:
    """Files by their size and the time they were changed; another size or time, and a file is unknown again.

    They are kept in the store, in a file that may be deleted at any time.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changed = False

    def has(self, path: Path) -> bool:
        """Whether a file is as it was when it was remembered."""
        return self._known.get(self._name(path)) == _stamp(path)

    def remember(self, path: Path) -> None:
        """Remembers that a file is whole as it is now."""
        self._known[self._name(path)] = _stamp(path)
        self._changed = True

    def save(self) -> None:
        """Writes what was remembered since; nothing where that is nothing. Raises StoreFull."""
        if self._changed:
            write_json(below(self._root, _NAME), dict(self._known))
            self._changed = False

    @cached_property
    def _known(self) -> dict[str, list[int] | None]:
        path = self._root / _NAME
        try:
            return read_json(path) if path.is_file() else {}
        except StoreDamaged:  # then the files are read once more
            return {}

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _stamp(path: Path) -> list[int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]
