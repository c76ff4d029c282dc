"""A process that computes into a store announces itself there, from its first task to its end."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from robustvit.records.status.worker_files import remove_worker, write_worker

_RENEWED = 20.0  # seconds after which the file is renewed, whatever is computed; `EXPIRY` is six times as long
_RESTED = 5.0  # seconds between two renewals at least
_WAITED = 5.0  # seconds that the end waits for a write that hangs
A = TypeVar("A")
B = TypeVar("B")


class Heartbeat:
    """The file of this process among the workers of a store: written when it first computes something, gone at the end of the block.

    Outside of its block it writes nothing. A thread renews the file while a task takes long. No fault of a disk ever leaves it.
    """

    def __init__(self, root: Path, device: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self._root, self._device, self._clock, self._name = root, device, clock, uuid.uuid4().hex
        self._computes, self._began, self._renewed = "", 0.0, float("-inf")
        self._entered, self._changed, self._ended = False, False, threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        self._entered = True
        self._ended.clear()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._entered = False
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_WAITED)
            self._thread, self._renewed = None, float("-inf")
            remove_worker(self._root, self._name)

    def telling(self, announce: Callable[[str], None]) -> Callable[[str], None]:
        """The function that is called with what is being computed, which then renews the file, too."""

        def tell(what: str) -> None:
            self.computes(what)
            announce(what)

        return tell

    def counting(self, spent: Callable[[A, B, int, float], None]) -> Callable[[A, B, int, float], None]:
        """The function that is called with a task, its model, its rows and their seconds, which then counts the rows, too."""

        def count(task: A, model: B, rows: int, seconds: float) -> None:
            self.rows += rows
            spent(task, model, rows, seconds)

        return count

    def computes(self, what: str) -> None:
        """Says what is computed from now on."""
        self._computes, self._changed = what, True
        if self._entered and self._clock() - self._renewed >= _RESTED:
            if self._thread is None:
                self._began = self._clock()
                self._thread = threading.Thread(target=self._go_on, daemon=True, name="robustvit-heartbeat")
                self._thread.start()
            self._renew()

    def _go_on(self) -> None:
        while not self._ended.wait(_RESTED):
            if self._changed or self._clock() - self._renewed >= _RENEWED - _RESTED:  # and not after the next wait only
                self._renew()

    def _renew(self) -> None:
        with self._writing:
            if not self._ended.is_set():
                self._renewed, self._changed = self._clock(), False
                write_worker(self._root, self._name, self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(), "process": os.getpid(), "device": self._device, "computes": self._computes, "rows": self.rows,
            "seconds": round(self._clock() - self._began, 3),
        }  # fmt: skip
