"""A layer between a process and the disk: it counts the operations that change files below a folder, and makes one of them the last.

Operations: a file opened for writing, a write (half of it is done), a sync, a rename, a removal, a folder made. Whoever installs it is
a child made for one trial; nothing is ever uninstalled.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
ERRORS = {"full": errno.ENOSPC, "readonly": errno.EROFS, "denied": errno.EACCES, "broken": errno.EIO}
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


@dataclass
class FaultLayer:
    """root: only files below it count. kind: a signal sent before the operation number `at` (from 1), or an error that it and every
    later one raise; "" and 0 for none. seen: the operations so far, each with the path below root.
    """

    root: str
    kind: str = ""
    at: int = 0
    seen: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Watches this process from now on."""
        sys.addaudithook(self._audit)
        self._wrap_fsync()
        opened = builtins.open

        def watched(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            made = opened(file, mode, *given, **named)
            return _Watched(made, self) if self._is_below(file) and set(mode) & set("wax+") else made

        builtins.open = io.open = watched  # type: ignore[assignment]

    def operation(self, name: str, path: Any, partly: Callable[[], object] = lambda: None) -> None:
        """Counts an operation, which is the last one where its turn has come. partly: does half of it."""
        if not self._is_below(path):
            return
        self.seen.append(f"{name} {os.path.relpath(os.fspath(path), self.root)}")
        if not self.at or len(self.seen) < self.at:
            return
        if self.kind in ERRORS:
            partly()
            raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]), os.fspath(path))
        if len(self.seen) == self.at:
            if self.kind != "int":  # which the process survives: it would go on behind the half that is written
                partly()
            os.kill(os.getpid(), SIGNALS[self.kind])

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.operation("open", given[0])
        elif event in _CHANGES:
            self.operation(event.removeprefix("os."), given[0])

    def _wrap_fsync(self) -> None:
        fsync = os.fsync

        def watched(descriptor: int) -> None:
            self.operation("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = watched

    def _is_below(self, path: Any) -> bool:
        if isinstance(path, int) or not isinstance(path, str | os.PathLike):
            return False
        return os.path.abspath(os.fspath(path)).startswith(self.root + os.sep)


class _Watched:
    """A file whose writes are operations, each of which may be done by half."""

    def __init__(self, file: Any, layer: FaultLayer) -> None:
        self._file, self._layer = file, layer

    def write(self, content: Any) -> int:
        half = content[: len(content) // 2]
        self._layer.operation("write", self._file.name, lambda: (self._file.write(half), self._file.flush()))
        return int(self._file.write(content))

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
