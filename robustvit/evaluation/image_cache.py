"""A cache of decoded images on disk: every cell and every process with the same data set and view reads the same pixels.

    <cache folder>/pictures/<key>/<chunk>.npy      64 rows in evaluation order, uint8 (rows, H, W, 3), and a checksum behind them

Images of data that is fleeting (see batch.Traits) are not cached: they are decoded again for every read. The key covers the data's
fingerprint, the view and the version of Pillow, so nothing goes stale, with one exception: a file replaced by another of the same name and
size is not noticed. A chunk is written beside its place and renamed, so several processes may build the same one and no process reads half
of it; it is not synced, because a chunk damaged by a crash fails its checksum and is built again.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import platformdirs
from PIL import Image

from robustvit.errors import DataError, DataUnreadable, few
from robustvit.primitives.batch import Data, traits
from robustvit.records.disk import replace_file
from robustvit.spec.sample_order import order
from robustvit.spec.spec import digest
from robustvit.spec.view import View

CACHE_VERSION = 1
CHUNK = 64
_CHECKSUM = 4  # bytes of CRC-32 behind the array


class ImageCache:
    """The images of `data` in `view`, by their rank in evaluation order.

    workers: threads that decode in parallel (Pillow releases the GIL); 0 decodes in the caller's. folder: of the decoded images; default
    `cache_folder()`.
    """

    def __init__(self, data: Data, view: View, *, workers: int = 0, folder: Path | None = None) -> None:
        self.data = data
        self.view = view
        self.workers = workers
        self.order = order(data.ids)
        key = digest([CACHE_VERSION, PIL.__version__, data.name, data.fingerprint, view.as_dict()])
        self.folder = _images_folder(folder) / key
        self.fleeting = traits(data).fleeting
        self._sound: set[int] = set()

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8: the images at these ranks, in their order. Decodes those that are not cached yet.

        Raises DataUnreadable naming the images that cannot be read, DataError where the cache folder cannot be written.
        """
        if self.fleeting:
            return self._decoded(ranks)
        chunks = ranks // CHUNK
        self._build(np.unique(chunks).tolist(), None)
        out = np.empty((len(ranks), *self.view.size, 3), np.uint8)
        for chunk in np.unique(chunks).tolist():
            here = chunks == chunk
            out[here] = self._open(chunk)[ranks[here] % CHUNK]
        return out

    def ensure(self, stop: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Decodes every chunk of the first `stop` rows that is not cached yet. progress: called with the rows cached and the rows wanted.

        Raises as `rows` does, after decoding all of them: unreadable images are named together. Does nothing for data that is fleeting.
        """
        if not self.fleeting:
            self._build(range(-(-min(stop, len(self)) // CHUNK)), progress)

    def _build(self, chunks: Iterable[int], progress: Callable[[int, int], None] | None) -> None:
        wanted = list(chunks)
        missing = [chunk for chunk in wanted if not self._is_sound(chunk)]
        total = sum(self._rows_of(chunk) for chunk in wanted)
        done = total - sum(self._rows_of(chunk) for chunk in missing)
        failures: list[str] = []
        for built in _in_parallel(self._decode, missing, self.workers):
            failures += built.failures
            done += self._rows_of(built.chunk)
            if progress is not None:
                progress(done, total)
        self._refuse(failures, total)

    def _decoded(self, ranks: np.ndarray) -> np.ndarray:
        """The images at these ranks, decoded by the workers and not cached."""
        parts = [ranks[start : start + CHUNK] for start in range(0, len(ranks), CHUNK)]
        if self.workers < 1 or len(parts) < 2:
            parts_read = [self._read(part) for part in parts]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                parts_read = list(pool.map(self._read, parts))
        self._refuse([failure for one in parts_read for failure in one.failures], len(ranks))
        return np.concatenate([one.images for one in parts_read]) if parts_read else np.empty((0, *self.view.size, 3), np.uint8)

    def _read(self, ranks: np.ndarray) -> _Read:
        """The images at some ranks, and the reasons why some cannot be read."""
        images = np.empty((len(ranks), *self.view.size, 3), np.uint8)
        failures = []
        for row, position in enumerate(self.order[ranks].tolist()):
            try:
                images[row] = np.asarray(self.view.apply(Image.fromarray(self.data[position].image), self.data.ids[position]))
            except DataUnreadable as error:
                failures.append(str(error))
        return _Read(images, failures)

    def _refuse(self, reasons: list[str], total: int) -> None:
        failures = list(dict.fromkeys(reasons))  # the frames of a clip fail together
        if failures:
            raise DataUnreadable(
                f"data '{self.data.name}': {len(failures)} of {total} images cannot be read: {few(failures)}. Restore or remove them."
            )

    def _decode(self, chunk: int) -> _Built:
        """Decodes and writes one chunk, unless an image in it cannot be read."""
        read = self._read(np.arange(chunk * CHUNK, chunk * CHUNK + self._rows_of(chunk)))
        if not read.failures:
            self._write(chunk, read.images)
            self._sound.add(chunk)
        return _Built(chunk, read.failures)

    def _write(self, chunk: int, images: np.ndarray) -> None:
        sink = io.BytesIO()
        np.save(sink, images, allow_pickle=False)
        sink.write(zlib.crc32(images.data).to_bytes(_CHECKSUM, "little"))
        try:
            replace_file(self._path(chunk), sink.getbuffer())
        except OSError as error:
            raise DataError(
                f"decoded images cannot be written to {self.folder}: {error.strerror}. Free disk space or set another folder by "
                "$ROBUSTVIT_CACHE; `robustvit data --clear-cache` deletes the cached images."
            ) from error

    def _is_sound(self, chunk: int) -> bool:
        """Whether a chunk is on disk and whole; its checksum is verified on first use."""
        if chunk in self._sound:
            return self._path(chunk).is_file()
        try:
            images = self._open(chunk)
            with self._path(chunk).open("rb") as file:
                file.seek(-_CHECKSUM, os.SEEK_END)
                sound = zlib.crc32(images.data) == int.from_bytes(file.read(), "little")
        except (OSError, ValueError, EOFError):  # absent or truncated
            return False
        if sound:
            self._sound.add(chunk)
        return sound

    def _open(self, chunk: int) -> np.ndarray:
        images: np.ndarray = np.load(self._path(chunk), mmap_mode="r", allow_pickle=False)
        if images.shape != (self._rows_of(chunk), *self.view.size, 3) or images.dtype != np.uint8:
            raise ValueError(f"{self._path(chunk)} holds {images.shape} {images.dtype}")
        return images

    def _rows_of(self, chunk: int) -> int:
        return min(CHUNK, len(self) - chunk * CHUNK)

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06d}.npy"


class _Read(NamedTuple):
    images: np.ndarray
    failures: list[str]


class _Built(NamedTuple):
    chunk: int
    failures: list[str]


def cache_folder() -> Path:
    """The folder of what robustvit can compute again: $ROBUSTVIT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ROBUSTVIT_CACHE") or platformdirs.user_cache_dir("robustvit"))


def usage(folder: Path | None = None) -> int:
    """The bytes that decoded images take now."""
    return sum(_sizes(_images_folder(folder)))


def clear(folder: Path | None = None) -> int:
    """Deletes all decoded images; returns the bytes freed. Raises DataError where they cannot be deleted."""
    freed = usage(folder)
    try:
        shutil.rmtree(_images_folder(folder))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"decoded images cannot be deleted from {_images_folder(folder)}: {error.strerror}.") from error
    return freed


def _images_folder(folder: Path | None) -> Path:
    return (folder or cache_folder()) / "pictures"


def _in_parallel(build: Callable[[int], _Built], chunks: list[int], workers: int) -> Iterator[_Built]:
    """Yields chunks as they are done; at most two per worker are in progress, so that the first failure to write stops the rest soon."""
    if workers < 1 or len(chunks) < 2:
        yield from map(build, chunks)
        return
    remaining = iter(chunks)
    with ThreadPoolExecutor(workers) as pool:
        in_progress: set[Future[_Built]] = {pool.submit(build, chunk) for chunk in islice(remaining, 2 * workers)}
        while in_progress:
            done, in_progress = wait(in_progress, return_when=FIRST_COMPLETED)
            in_progress |= {pool.submit(build, chunk) for chunk in islice(remaining, len(done))}
            yield from (future.result() for future in done)


def _sizes(images: Path) -> Iterator[int]:
    for folder, _, names in os.walk(images):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process has cleared or renamed it
                yield (Path(folder) / name).stat().st_size
