"""Reads every image of a data set and reports those that cannot be read and those that are duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robustvit.data.formats.files import ImageFiles
from robustvit.errors import DataError
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.content import read_digested
from robustvit.spec.grouping import grouped
from robustvit.spec.sample_order import Frames

_AT_ONCE = 512  # images between two reports of progress

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ImageCheck:
    """The result of `verify`.

    unreadable: reasons, one per image; same, clashing: ids of equal images, with one label and with several; changed: ids of images that
    are not those which the rows of a store were computed on; compared: how many were compared with those. content: a digest of the bytes of
    all images, 20 hex digits.
    """

    images: int
    unreadable: tuple[str, ...]
    same: tuple[tuple[str, ...], ...]
    clashing: tuple[tuple[str, ...], ...]
    changed: tuple[str, ...] = ()
    compared: int = 0
    content: str = ""

    @property
    def right(self) -> bool:
        """Whether every image can be read, none occurs under two labels, and none has changed."""
        return not self.unreadable and not self.clashing and not self.changed


class _Content(NamedTuple):
    digest: bytes
    reason: str = ""


def verify(data: Data, report: Report | None = None, known: Mapping[str, bytes] | None = None) -> ImageCheck:
    """Reads and decodes every image. Images are equal where their files are, or, for data that is not files, where their pixels are.

    The frames of clips are only decoded, since a clip may not move, and so are images that may be `alike` (see batch.Traits). known: the
    digests that a store keeps of the images, by id.
    """
    read: list[_Content] = []
    for start, some in _contents(data):
        read += some
        if report is not None:
            report(min(start + _AT_ONCE, len(data)), len(data), f"verifying {data.name}")
    groups = [] if isinstance(data.ids, Frames) or traits(data).alike else _equal(read)
    labels = np.asarray(data.labels)
    several = [len(set(labels[group].tolist())) > 1 for group in groups]
    named = [tuple(data.ids[i] for i in group) for group in groups]
    compared = [(name, one.digest) for name, one in zip(data.ids, read, strict=True) if name in (known or {}) and not one.reason]
    total = hashlib.sha256(b"".join(sorted(name.encode() + one.digest for name, one in zip(data.ids, read, strict=True))))
    return ImageCheck(
        len(data), tuple(one.reason for one in read if one.reason),
        tuple(ids for ids, clash in zip(named, several, strict=True) if not clash),
        tuple(ids for ids, clash in zip(named, several, strict=True) if clash),
        tuple(name for name, digest in compared if digest != (known or {})[name]), len(compared), total.hexdigest()[:20],
    )  # fmt: skip


def covers(earlier: Data | None, later: Data) -> bool:
    """Whether all images of `later` are files of `earlier` too, as those of a part of ImageNet are."""
    before, after = _files(earlier), _files(later)
    return before is not None and after is not None and before.root == after.root and set(after.paths) <= set(before.paths)


def _files(data: Data | None) -> ImageFiles | None:
    """What reads the images of a data set, where they are files."""
    read = getattr(data, "read", None)
    return read if isinstance(read, ImageFiles) else None


def _contents(data: Data) -> Iterator[tuple[int, list[_Content]]]:
    """The contents of the images in their order, some at a time; files are read in parallel."""
    files = _files(data)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if files is not None else 1) as pool:
        for start in range(0, len(data), _AT_ONCE):
            yield start, list(pool.map(lambda i: _content(data, i), range(start, min(start + _AT_ONCE, len(data)))))


def _content(data: Data, index: int) -> _Content:
    try:
        return _Content(read_digested(data, index).digest)
    except DataError as error:
        return _Content(b"", str(error))


def _equal(read: Sequence[_Content]) -> list[list[int]]:
    """The indices of readable images that are equal, in groups of two and more."""
    groups = grouped((one.digest, i) for i, one in enumerate(read) if not one.reason)
    return [group for group in groups.values() if len(group) > 1]
