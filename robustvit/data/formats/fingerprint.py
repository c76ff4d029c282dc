"""The fingerprints of a data set, computed without decoding its images, and the check that sample ids are unique."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from robustvit.errors import DataUnreadable, few
from robustvit.primitives.content import EncodedImages, digest_of
from robustvit.spec.sample_order import order

_READ = 64  # samples, the first in evaluation order, whose bytes the fingerprint covers


def fingerprint(ids: Sequence[str], labels: np.ndarray, classes: Sequence[str], marks: Iterable[object]) -> str:
    """A hash of what is known of a data set without reading it: 20 hex digits of sha256 over the classes and the sorted (id, label, mark).

    marks: one for each image in place of its content, usually its size in bytes. Neither paths nor the order of listing enter the hash.
    Two sets of other images may share it; `content_fingerprint` does not.
    """
    lines = [f"{name}\t{label}\t{mark}" for name, label, mark in zip(ids, labels.tolist(), marks, strict=True)]
    return hashlib.sha256("\n".join(("\t".join(classes), *sorted(lines))).encode()).hexdigest()[:20]


def content_fingerprint(names: str, ids: Sequence[str], read: object) -> str:
    """The fingerprint `names` of a data set together with the bytes of its first 64 samples in evaluation order, 20 hex digits.

    read: the reader of its images; `names` itself where they are not encoded files. A file that cannot be read counts as such: decoding
    says which it is.
    """
    if not isinstance(read, EncodedImages):
        return names
    total = hashlib.sha256(names.encode())
    for index in order(ids)[:_READ].tolist():
        total.update(_digest(read, index))
    return total.hexdigest()[:20]


def _digest(read: EncodedImages, index: int) -> bytes:
    try:
        return digest_of(read.content(index))
    except DataUnreadable:
        return b"unreadable"


def refuse_repeats(ids: Sequence[str], data: str) -> None:
    """Raises DataUnreadable where two samples of `data` have the same id."""
    if len(set(ids)) == len(ids):
        return
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    raise DataUnreadable(
        f"data '{data}': {len(repeated)} sample ids belong to more than one image: {few(repeated)}. Rename or remove the files."
    )
