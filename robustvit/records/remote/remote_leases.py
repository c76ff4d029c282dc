"""Leases as objects: created by one of several, renewed while they are held, and free once they are old by the clock of the service."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator

from robustvit.errors import StoreError
from robustvit.records.remote.object_place import ObjectPlace

log = logging.getLogger(__name__)
EXPIRY = 60.0  # seconds after which a lease that is not renewed is free
_RENEWAL = EXPIRY / 4

_looked: dict[tuple[str, str, str], float] = {}


@contextlib.contextmanager
def remote_lease(place: ObjectPlace, name: str) -> Iterator[bool]:
    """Whether this process holds a lease for the length of a block; False while another one does.

    A lease that its holder does not renew, as one that was killed, is free after EXPIRY seconds of the service's clock. Then two may hold
    one for a moment, if the first was only slow: they compute the same rows, of which one copy counts.
    """
    tag = _acquired(place, name)
    if tag is None:
        yield False
        return
    held = _Held(place, name, tag)
    try:
        yield True
    finally:
        held.release()


def _acquired(place: ObjectPlace, name: str) -> str | None:
    mine = uuid.uuid4().hex.encode()
    tag = place.create(name, mine)
    if tag is not None:
        return tag
    found = place.facts(name)
    if found is None:  # released since
        return place.create(name, mine)
    looked = (place.url, name, found.tag)
    if time.monotonic() < _looked.get(looked, 0.0):
        return None
    if abs(place.clock() - found.written) < EXPIRY:
        _looked[looked] = time.monotonic() + _RENEWAL  # the clock costs three requests
        return None
    return place.exchange(name, mine, found.tag)


class _Held:
    """A lease that is held, and the thread that renews it."""

    def __init__(self, place: ObjectPlace, name: str, tag: str) -> None:
        self.place, self.name, self.tag = place, name, tag
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._over.wait(_RENEWAL):
            try:
                tag = self.place.exchange(self.name, uuid.uuid4().hex.encode(), self.tag)
            except StoreError as error:
                log.info("the lease %s was not renewed: %s", self.name, error)
                continue
            if tag is None:
                return  # another process took it over
            self.tag = tag

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StoreError):  # then it expires
            found = self.place.facts(self.name)
            if found is not None and found.tag == self.tag:
                self.place.remove(self.name)
