"""A value that takes long to make and is made anew, in a thread of its own, where what it is made of has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
T = TypeVar("T")

_REST = 9.0  # times as long as a making took, until the next: it takes no more than a tenth of one core


class Made(NamedTuple, Generic[K, T]):
    """A value, and what it was made of."""

    value: T
    of: K


class Remade(Generic[K, T]):
    """The latest value that was made. make: takes what it is made of; patience: seconds that a caller waits for a making at most."""

    def __init__(self, make: Callable[[K], T], *, patience: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._patience, self._clock = make, patience, clock
        self._lock, self._idle = threading.Lock(), threading.Event()
        self._idle.set()
        self._made: Made[K, T] | None = None
        self._rest_until = float("-inf")

    def latest(self, of: K) -> Made[K, T] | None:
        """The value that was made last, of whatever; None before the first.

        Where `of` is another, and the last making is long enough ago, one begins, for which a caller waits a little.

        Several threads may ask at once; one value is made at a time.
        """
        with self._lock:
            new = self._made is None or self._made.of != of
            if new and self._idle.is_set() and self._clock() >= self._rest_until:
                self._idle.clear()
                threading.Thread(target=self._work, args=(of,), daemon=True).start()
        self.wait(self._patience)
        return self._made

    def wait(self, seconds: float) -> bool:
        """Waits until nothing is being made, so long at most; whether that is so."""
        return self._idle.wait(seconds)

    def _work(self, of: K) -> None:
        began = self._clock()
        try:
            self._made = Made(self._make(of), of)
        finally:
            self._rest_until = self._clock() + _REST * (self._clock() - began)
            self._idle.set()
