"""Which folders of this machine mirror something, and what is told of the changes of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Mirrored(Protocol):
    """What a folder mirrors: told of every change of a file below it, before it is made."""

    def write(self, path: Path, content: bytes | memoryview) -> None:
        """Writes the content there. Raises StoreError."""
        ...

    def written(self, path: Path) -> None:
        """Called once the file is written here, too."""
        ...

    def now(self) -> float:
        """The time there, seconds since 1970."""
        ...

    def remove(self, path: Path) -> None:
        """Removes it there. Raises StoreError."""
        ...


MIRRORS: dict[Path, Mirrored] = {}
"""What folders of this machine mirror, by folder (robustvit.records.remote)."""


def mirrored_by(path: Path) -> Mirrored | None:
    """What the folder that a file is in mirrors; None for a folder of this machine alone."""
    return next((one for folder, one in MIRRORS.items() if path.is_relative_to(folder)), None)
