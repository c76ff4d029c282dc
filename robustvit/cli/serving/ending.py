"""The end of a command that goes on until somebody ends it."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK = 0.5  # seconds; where nothing interrupts a wait, a signal is noticed after so long


@contextmanager
def until_ended() -> Iterator[Callable[[float | None], None]]:
    """Yields a function that waits until Ctrl-C or SIGTERM come, or so many seconds.

    The first signal ends the wait. A second one does what it would have done without this, as does one that the process was begun to
    ignore.
    """
    ended = threading.Event()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def end(number: int, frame: FrameType | None) -> None:
        _restore(before)
        ended.set()

    def wait(seconds: float | None) -> None:
        last = math.inf if seconds is None else time.monotonic() + seconds
        while not ended.is_set() and (left := last - time.monotonic()) > 0:
            ended.wait(min(_LOOK, left))

    for number in _SIGNALS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield wait
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
