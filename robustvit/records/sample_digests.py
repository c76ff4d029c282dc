"""The digests of the images that the rows of a store were computed on: one table for each data set, beside the cells.

    samples/<fingerprint>/<shard>-<stop>-<digest>.parquet     the first `stop` samples of a shard in evaluation order: sample, digest (16
                                                              bytes); `digest` is that of the file, earlier files have none

A file appears whole or not at all, and a longer one takes the place of a shorter, so stores merge by copying.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robustvit.errors import DataUnreadable, few
from robustvit.records.disk import below, content_digest, remove, write_bytes
from robustvit.records.parquet import read_table
from robustvit.records.records_file import GARBAGE
from robustvit.spec.given import why_not_regular

_FILE = re.compile(r"(\d{6})-(\d{3})(?:-([0-9a-f]{20}))?\.parquet")
_SCHEMA = pa.schema({"sample": pa.string(), "digest": pa.binary(16)})


class _Kept(NamedTuple):
    path: Path
    stop: int
    samples: list[str]
    digests: np.ndarray


class SampleDigests:
    """The digests of one data set's images in a store. place: the store's folder; fingerprint, name: of the data set.

    damaged: tables that were found damaged, by the names under which they are set aside.
    """

    def __init__(self, place: Path, fingerprint: str, name: str) -> None:
        self.place, self.fingerprint, self.name = place, fingerprint, name
        self.folder = place / "samples" / fingerprint
        self.damaged: list[Path] = []
        self._held: dict[int, np.ndarray] = {}

    def keep(self, shard: int, start: int, ids: Sequence[str], digests: np.ndarray) -> None:
        """Compares the digests (n, 16) uint8 of a shard's samples from `start` on with those kept, and keeps those that are new.

        Raises DataUnreadable, naming the samples, where an image is another than the rows in the store were computed on.
        """
        kept = self._of(shard)
        both = max(0, min(len(kept), start + len(ids)) - start)
        changed = (kept[start : start + both] != digests[:both]).any(axis=1).nonzero()[0]
        if len(changed):
            raise DataUnreadable(
                f"data '{self.name}': {len(changed)} of {both} images are not those that the rows of this store were computed on: "
                f"{few([ids[row] for row in changed])}. Restore them, or give a new place with --store."
            )
        if start <= len(kept) < start + len(ids):
            self._write(shard, np.concatenate((kept[:start], digests)), ids, start)

    def all(self) -> dict[str, bytes]:
        """Every digest that is kept, by the sample's id."""
        found: dict[str, bytes] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            kept = _read(path)
            if kept is not None:
                found |= dict(zip(kept.samples, map(bytes, kept.digests), strict=True))
        return found

    def _of(self, shard: int) -> np.ndarray:
        """(n, 16) uint8: the digests that are kept of a shard, of its first n samples."""
        if shard not in self._held:
            found = self._files(shard)
            self.damaged += self._set_aside(shard, {one.path for one in found})
            self._held[shard] = found[-1].digests if found else np.empty((0, 16), np.uint8)
        return self._held[shard]

    def _files(self, shard: int) -> list[_Kept]:
        """The whole files of a shard, the longest last."""
        whole = filter(None, map(_read, self.folder.glob(f"{shard:06d}-*.parquet")))
        return sorted(whole, key=lambda one: one.stop)

    def _set_aside(self, shard: int, whole: Collection[Path]) -> list[Path]:
        """Renames the files of a shard that are not whole; returns their new names."""
        found = []
        for path in sorted(self.folder.glob(f"{shard:06d}-*.parquet")):
            if path not in whole and _FILE.fullmatch(path.name):
                aside = path.with_suffix(".damaged")
                with contextlib.suppress(FileNotFoundError):  # another process has put a longer one in its place
                    below(self.place, "samples", self.fingerprint, path.name).replace(aside)
                    found.append(aside)
        return found

    def _write(self, shard: int, digests: np.ndarray, ids: Sequence[str], start: int) -> None:
        earlier = self._files(shard)
        names = earlier[-1].samples[:start] if start else []
        rows = pa.table({"sample": [*names, *ids], "digest": [one.tobytes() for one in digests]}, _SCHEMA)
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
        content = sink.getbuffer()
        name = f"{shard:06d}-{len(digests):03d}-{content_digest(content)}.parquet"
        write_bytes(below(self.place, "samples", self.fingerprint, name), content)
        for one in earlier:
            if one.stop < len(digests):  # another process may have written as many meanwhile, under the same name
                remove(one.path)
        self._held[shard] = digests


def is_whole_table(path: Path) -> bool:
    """Whether a file of digests is what was written."""
    return _read(path) is not None


def _read(path: Path) -> _Kept | None:
    """What a file holds; None where it is not one of these, or not whole, so that it is written anew."""
    named = _FILE.fullmatch(path.name)
    if why_not_regular(path):
        return None
    try:
        content = path.read_bytes()
        if named is None or (named[3] and named[3] != content_digest(content)):
            return None
        rows = read_table(content)
        samples, digests = rows["sample"].to_pylist(), b"".join(rows["digest"].to_pylist())
    except GARBAGE:
        return None
    kept = _Kept(path, int(named[2]), samples, np.frombuffer(digests, np.uint8).reshape(-1, 16))
    return kept if len(samples) == len(kept.digests) == kept.stop else None
