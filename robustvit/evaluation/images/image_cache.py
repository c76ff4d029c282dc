"""A cache of decoded images on disk: every cell and every process with the same data set and view reads the same pixels.

    <cache folder>/pictures/<key>/<chunk>.npy      64 rows in evaluation order, uint8 (rows, H, W, 3); behind them the digest of each
                                                   image's bytes and when its file was last written; a checksum

Images of data that is fleeting (see batch.Traits) are not cached: they are decoded again for every read. The key covers the data's
fingerprint, the view and the version of Pillow. Where a file was written since, its bytes are read again, and its chunk is built anew if
they are others: nothing goes stale. A chunk is written beside its place and renamed, so several processes may build the same one and no
process reads half of it; it is not synced, because a chunk damaged by a crash fails its checksum and is built again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from robustvit.errors import DataError, DataUnreadable, few
from robustvit.evaluation.images.cache_folder import images_folder
from robustvit.evaluation.images.image_chunk import open_images, read_known, write_chunk
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.content import DIGEST_BYTES, digest_of, encoded_images, read_digested
from robustvit.primitives.pixels import through_view
from robustvit.records.disk import sweep
from robustvit.spec.sample_order import order
from robustvit.spec.spec import digest
from robustvit.spec.view import View

CACHE_VERSION = 2
CHUNK = 64


class ImageCache:
    """The images of `data` in `view`, by their rank in evaluation order.

    workers: threads that decode in parallel (Pillow releases the GIL); 0 decodes in the caller's. folder: of the decoded images; default
    that of the user, see `cache_folder`.
    """

    def __init__(self, data: Data, view: View, *, workers: int = 0, folder: Path | None = None) -> None:
        self.data = data
        self.view = view
        self.workers = workers
        self.order = order(data.ids)
        key = digest([CACHE_VERSION, PIL.__version__, data.name, data.fingerprint, view.as_dict()])
        self.folder = images_folder(folder) / key
        self.fleeting, self.channels = traits(data).fleeting, traits(data).channels
        sweep(self.folder)
        self._known: dict[int, np.ndarray] = {}  # of the chunks that are sound

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8: the images at these ranks, in their order. Decodes those that are not cached yet.

        Raises DataUnreadable naming the images that cannot be read, DataError where the cache folder cannot be written.
        """
        return self.rows_with_digests(ranks).images

    def rows_with_digests(self, ranks: np.ndarray) -> DigestedRows:
        """As `rows`, with the digest of each image's bytes."""
        if self.fleeting:
            return self._decoded(ranks)
        chunks = ranks // CHUNK
        self._build(np.unique(chunks).tolist(), None)
        images, digests = self._empty(len(ranks))
        for chunk in np.unique(chunks).tolist():
            here = chunks == chunk
            images[here] = self._open(chunk)[ranks[here] % CHUNK]
            digests[here] = self._known[chunk]["digest"][ranks[here] % CHUNK]
        return DigestedRows(images, digests)

    def digests(self, stop: int) -> np.ndarray:
        """(stop, 16) uint8: the digests of the bytes of the first `stop` images, which `ensure` decoded. Not for data that is fleeting."""
        return np.concatenate([self._known[chunk]["digest"] for chunk in range(-(-stop // CHUNK))])[:stop]

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

    def _decoded(self, ranks: np.ndarray) -> DigestedRows:
        """The images at these ranks, decoded by the workers and not cached."""
        parts = [ranks[start : start + CHUNK] for start in range(0, len(ranks), CHUNK)]
        if self.workers < 1 or len(parts) < 2:
            parts_read = [self._read(part) for part in parts]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                parts_read = list(pool.map(self._read, parts))
        self._refuse([failure for one in parts_read for failure in one.failures], len(ranks))
        none = DigestedRows(*self._empty(0))
        return DigestedRows(*(np.concatenate(both) for both in zip(none, *(one.rows for one in parts_read), strict=True)))

    def _empty(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((count, *self.view.size, self.channels), np.uint8), np.empty((count, DIGEST_BYTES), np.uint8)

    def _read(self, ranks: np.ndarray) -> _Read:
        """The images at some ranks, and the reasons why some cannot be read."""
        images, digests = self._empty(len(ranks))
        failures = []
        for row, position in enumerate(self.order[ranks].tolist()):
            try:
                image, digest = read_digested(self.data, position)
                images[row] = through_view(self.view, image, self.data.ids[position])
            except DataUnreadable as error:
                failures.append(str(error))
            else:
                digests[row] = np.frombuffer(digest, np.uint8)
        return _Read(DigestedRows(images, digests), failures)

    def _refuse(self, reasons: list[str], total: int) -> None:
        failures = list(dict.fromkeys(reasons))  # the frames of a clip fail together
        if failures:
            raise DataUnreadable(
                f"data '{self.data.name}': {len(failures)} of {total} images cannot be read: {few(failures)}. Restore or remove them."
            )

    def _decode(self, chunk: int) -> _Built:
        """Decodes and writes one chunk, unless an image in it cannot be read."""
        stamps = self._stamps(chunk)  # before the bytes are read: a file written meanwhile is read again
        read = self._read(np.arange(chunk * CHUNK, chunk * CHUNK + self._rows_of(chunk)))
        if not read.failures:
            self._write(chunk, read.rows.images, read.rows.digests, stamps)
        return _Built(chunk, read.failures)

    def _stamps(self, chunk: int) -> np.ndarray:
        """(rows,) int64: when the files of a chunk were last written; 0 for images that are no files."""
        encoded = encoded_images(self.data)
        positions = self.order[chunk * CHUNK : (chunk + 1) * CHUNK].tolist()
        return np.array([0 if encoded is None else encoded.stamp(position) for position in positions], np.int64)

    def _write(self, chunk: int, images: np.ndarray, digests: np.ndarray, stamps: np.ndarray) -> None:
        try:
            self._known[chunk] = write_chunk(self._path(chunk), images, digests, stamps)
        except OSError as error:
            raise DataError(
                f"decoded images cannot be written to {self.folder}: {error.strerror}. Free disk space or set another folder by "
                "$ROBUSTVIT_CACHE; `robustvit data --clear-cache` deletes the cached images."
            ) from error

    def _is_sound(self, chunk: int) -> bool:
        """Whether a chunk is on disk, whole and of the files as they are; its checksum is verified, and its files are, on first use."""
        if chunk in self._known:
            return self._path(chunk).is_file()
        try:
            images, known = self._open(chunk), read_known(self._path(chunk))
        except (OSError, ValueError, EOFError):  # absent, truncated or damaged
            return False
        stamps = self._stamps(chunk)
        written = np.flatnonzero((known["stamp"] != stamps) | (stamps < 0))
        if not self._hold(chunk, written, known["digest"][written]):
            return False
        if (known["stamp"] != stamps).any():
            self._write(chunk, images, known["digest"], stamps)
        self._known[chunk] = known
        return True

    def _hold(self, chunk: int, rows: np.ndarray, digests: np.ndarray) -> bool:
        """Whether the files of some rows of a chunk hold the bytes of these digests."""
        encoded = encoded_images(self.data)
        try:
            return encoded is None or all(
                digest_of(encoded.content(int(self.order[chunk * CHUNK + row]))) == digest.tobytes()
                for row, digest in zip(rows.tolist(), digests, strict=True)
            )
        except DataUnreadable:  # decoding says which file it is
            return False

    def _open(self, chunk: int) -> np.ndarray:
        return open_images(self._path(chunk), (self._rows_of(chunk), *self.view.size, self.channels))

    def _rows_of(self, chunk: int) -> int:
        return min(CHUNK, len(self) - chunk * CHUNK)

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06d}.npy"


class DigestedRows(NamedTuple):
    """images: (n, H, W, 3) uint8. digests: of their bytes, (n, 16) uint8."""

    images: np.ndarray
    digests: np.ndarray


class _Read(NamedTuple):
    rows: DigestedRows
    failures: list[str]


class _Built(NamedTuple):
    chunk: int
    failures: list[str]


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
