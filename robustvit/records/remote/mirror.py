"""A folder that mirrors a place in object storage: read there, and written to both, the place first.

    <cache>/stores/<scheme>/<bucket>/<prefix>/      the files of the store

The place is what counts: the folder may be deleted at any time. Leases and clocks are objects alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from robustvit.errors import StoreError
from robustvit.records.disk import OF_STORES, is_hidden, on_disk, replace_file
from robustvit.records.remote.mirrored import MIRRORS
from robustvit.records.remote.object_place import ObjectFacts, ObjectPlace
from robustvit.records.user_cache import cache_folder

_AT_ONCE = 16  # downloads
_TRIES = 3  # of a download that ends early
_RECENT = 10.0  # seconds for which a file that is not in a list is kept: another process may have written it since
_OBJECTS_ALONE = ("leases", "verified.json")  # of a store what its mirror has of its own, or not at all
_BY_CONTENT = re.compile(r"cells/\w+/cell\.json|(?:cells|learned|ids)/.*[0-9a-f]{20}\.\w+|environments/[0-9a-f]{20}\.json")


class Mirror:
    """The mirror of a URL. Methods may be called from several threads."""

    def __init__(self, url: str) -> None:
        self.url, self.place = url, ObjectPlace(url)
        self.folder = cache_folder() / "stores" / Path(*PurePosixPath(url.replace("://", "/")).parts)
        self._tags: dict[str, str] = {}  # of the objects that this process read or wrote
        self._lock = threading.Lock()
        self._ahead: float | None = None

    def update(self, below: str = "") -> None:
        """Makes the folder, or what lies in one of its folders (`cells/…/`), what the place holds now.

        Raises StoreError where the place cannot be read, or an object ends early again and again, StoreFull where the disk is full.
        """
        with self._lock:
            began = time.time()
            there = {name: facts for name, facts in self.place.listed(below).items() if _belongs(name)}
            with on_disk(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            wanted = {name: facts for name, facts in there.items() if not self._has(name, facts)}
            if len(wanted) > 1:
                with ThreadPoolExecutor(_AT_ONCE) as threads:
                    list(threads.map(self._download, wanted, wanted.values()))
            else:
                for name, facts in wanted.items():
                    self._download(name, facts)
            for name in self._files(below):
                path = self._path(name)
                with contextlib.suppress(FileNotFoundError):
                    if name not in there and path.stat().st_ctime < began - _RECENT:
                        path.unlink()

    def write(self, path: Path, content: bytes | memoryview) -> None:
        """Writes an object; the caller then writes the file. Nothing for what a mirror has of its own."""
        name = self._name(path)
        if name is not None:
            tag = self.place.write(name, content)
            with self._lock:
                self._tags[name] = tag

    def written(self, path: Path) -> None:
        """Gives a file that was written now the time of the service, as near as it is known."""
        with contextlib.suppress(OSError):
            os.utime(path, (now := self.now(), now))

    def now(self) -> float:
        """The time of the service, as near as it was when it was first asked."""
        if self._ahead is None:
            self._ahead = self.place.clock() - time.time()
        return time.time() + self._ahead

    def remove(self, path: Path) -> None:
        """Removes an object; the caller then removes the file."""
        name = self._name(path)
        if name is not None:
            self.place.remove(name)
            with self._lock:
                self._tags.pop(name, None)

    def _download(self, name: str, facts: ObjectFacts) -> None:
        content: bytes | None = b""
        for _ in range(_TRIES):
            content = self.place.read(name)
            if content is None:  # removed since it was listed
                return
            if len(content) == facts.size:
                break
        else:
            raise StoreError(f"{self.url}/{name} ends early, {_TRIES} times: it has {facts.size} bytes. The same command reads it again.")
        path = self._path(name)
        with on_disk(path):
            replace_file(path, content)
            os.utime(path, (facts.written, facts.written))
        self._tags[name] = facts.tag

    def _has(self, name: str, facts: ObjectFacts) -> bool:
        """Whether the file of an object is here, as it is there."""
        try:
            if self._path(name).stat().st_size != facts.size:
                return False
            if self._tags.get(name) == facts.tag or _BY_CONTENT.fullmatch(name):
                return True
            return facts.tag.strip('"') == hashlib.md5(self._path(name).read_bytes(), usedforsecurity=False).hexdigest()
        except OSError:
            return False

    def _files(self, below: str) -> Iterator[str]:
        """The names of the files here, but those that the mirror has of its own."""
        for place, _, files in os.walk(self.folder / below):
            for file in files:
                name = (Path(place) / file).relative_to(self.folder).as_posix()
                if _belongs(name):
                    yield name

    def _name(self, path: Path) -> str | None:
        name = path.relative_to(self.folder).as_posix()
        return name if _belongs(name) else None

    def _path(self, name: str) -> Path:
        return self.folder / name


def _belongs(name: str) -> bool:
    """Whether an object is a file of a store that its mirror has."""
    parts = PurePosixPath(name).parts
    safe = not name.startswith("/") and "\\" not in name and not any(part in ("", ".", "..") or is_hidden(part) for part in name.split("/"))
    return safe and parts[0] in OF_STORES and parts[0] not in _OBJECTS_ALONE


def mirror_of(url: str) -> Mirror:
    """The mirror of a URL, the same one for the whole process, up to date."""
    found = next((one for one in MIRRORS.values() if isinstance(one, Mirror) and one.url == url), None) or Mirror(url)
    found.update()
    MIRRORS[found.folder] = found
    return found
