"""The end of a command that goes on until somebody ends it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK = 0.1  # seconds, after which a signal is noticed


@contextmanager
def until_ended() -> Iterator[Callable[[float | None], bool]]:
    """Yields a function that waits until Ctrl-C or SIGTERM come, or so many seconds; whether one has come.

    The first signal ends the wait. A second one does what it would have done without this, as does one that the process was begun to
    ignore.
    """
    ended: list[int] = []  # no Event, whose lock the interrupted code may hold
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def end(number: int, frame: FrameType | None) -> None:
        _restore(before)
        ended.append(number)

    def wait(seconds: float | None) -> bool:
        last = math.inf if seconds is None else time.monotonic() + seconds
        while not ended and (left := last - time.monotonic()) > 0:
            time.sleep(min(_LOOK, left))
        return bool(ended)

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
