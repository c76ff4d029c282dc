"""The fingerprint of a data set, computed without decoding its images, and the check that sample ids are unique."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from robustvit.errors import DataUnreadable, few


def fingerprint(ids: Sequence[str], labels: np.ndarray, classes: Sequence[str], marks: Iterable[object]) -> str:
    """A hash of a data set's content: 20 hex digits of sha256 over the classes and the sorted (id, label, mark).

    marks: one for each image in place of its content, usually its size in bytes. Neither paths nor the order of listing enter the hash.
    """
    lines = [f"{name}\t{label}\t{mark}" for name, label, mark in zip(ids, labels.tolist(), marks, strict=True)]
    return hashlib.sha256("\n".join(("\t".join(classes), *sorted(lines))).encode()).hexdigest()[:20]


def refuse_repeats(ids: Sequence[str], data: str) -> None:
    """Raises DataUnreadable where two samples of `data` have the same id."""
    if len(set(ids)) == len(ids):
        return
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    raise DataUnreadable(
        f"data '{data}': {len(repeated)} sample ids belong to more than one image: {few(repeated)}. Rename or remove the files."
    )
