"""A data set looked at picture by picture: what cannot be read, and what is there twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from robustvit.errors import DataError
from robustvit.primitives.batch import Data, traits
from robustvit.spec.sample_order import Frames

_AT_ONCE = 512  # pictures between two reports of progress
_DIGEST = 16  # bytes: among a million files none agree by chance

Report = Callable[[int, int, str], None]


@runtime_checkable
class Stored(Protocol):
    """Data whose pictures are files: `paths` below `root`."""

    root: Path
    paths: tuple[str, ...]

    def content(self, index: int) -> bytes:
        """The bytes of a file."""
        ...

    def picture(self, index: int, content: bytes) -> np.ndarray:
        """What they show."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What was found. unreadable: a reason for each picture; same, clashing: the ids of equal pictures, with one label and with several."""

    images: int
    unreadable: tuple[str, ...]
    same: tuple[tuple[str, ...], ...]
    clashing: tuple[tuple[str, ...], ...]

    @property
    def right(self) -> bool:
        """Whether every picture can be read and none stands under two labels."""
        return not self.unreadable and not self.clashing


class _Seen(NamedTuple):
    digest: bytes
    reason: str = ""


def verify(data: Data, report: Report | None = None) -> Verdict:
    """Reads and decodes every picture. Equal are those whose files are, or, of data that is no files, whose pixels are.

    The frames of clips are only decoded, since a clip may stand still, and so are pictures that are `alike` (see batch.Traits).
    """
    seen: list[_Seen] = []
    for start, some in _looked_at(data):
        seen += some
        if report is not None:
            report(min(start + _AT_ONCE, len(data)), len(data), f"verifying {data.name}")
    groups = [] if isinstance(data.ids, Frames) or traits(data).alike else _equal(seen)
    labels = np.asarray(data.labels)
    several = [len(set(labels[group].tolist())) > 1 for group in groups]
    named = [tuple(data.ids[i] for i in group) for group in groups]
    return Verdict(
        len(data), tuple(one.reason for one in seen if one.reason),
        tuple(ids for ids, clash in zip(named, several, strict=True) if not clash),
        tuple(ids for ids, clash in zip(named, several, strict=True) if clash),
    )  # fmt: skip


def covers(earlier: Data | None, later: Data) -> bool:
    """Whether all pictures of `later` are files of `earlier` too, as those of a part of ImageNet are."""
    if not isinstance(earlier, Stored) or not isinstance(later, Stored):
        return False
    return earlier.root == later.root and set(later.paths) <= set(earlier.paths)


def _looked_at(data: Data) -> Iterator[tuple[int, list[_Seen]]]:
    """The pictures in their order, some at a time; files are read beside each other."""
    workers = min(8, os.cpu_count() or 1) if isinstance(data, Stored) else 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(data), _AT_ONCE):
            yield start, list(pool.map(lambda i: _look(data, i), range(start, min(start + _AT_ONCE, len(data)))))


def _look(data: Data, index: int) -> _Seen:
    try:
        if isinstance(data, Stored):
            content = data.content(index)
            data.picture(index, content)
            return _Seen(hashlib.blake2b(content, digest_size=_DIGEST).digest())
        image = data[index].image
        return _Seen(hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=_DIGEST).digest())
    except DataError as error:
        return _Seen(b"", str(error))


def _equal(seen: Sequence[_Seen]) -> list[list[int]]:
    """The rows of readable pictures that are equal, in groups of two and more."""
    groups: dict[bytes, list[int]] = {}
    for i, one in enumerate(seen):
        if not one.reason:
            groups.setdefault(one.digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]
