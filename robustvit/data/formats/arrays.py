"""Data sets small enough to be held in memory as one array."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustvit.data.formats.fingerprint import fingerprint, refuse_repeats
from robustvit.primitives.batch import Sample
from robustvit.primitives.reading import Reading


@dataclass(frozen=True, eq=False)
class Arrays:
    """Pictures in one array: images (N, H, W, 3) uint8 RGB."""

    name: str
    fingerprint: str
    ids: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    readings: tuple[Reading, ...]
    images: np.ndarray
    source: str = "original"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.images[index], int(self.labels[index]))


def arrays(
    name: str, images: np.ndarray, labels: np.ndarray, *, ids: Sequence[str], classes: Sequence[str], readings: tuple[Reading, ...] = ()
) -> Arrays:
    """The data set of these arrays; its fingerprint covers every pixel. The arrays become read-only.

    readings: default, the model's logits in the order of `classes`. Raises DataUnreadable where an id stands twice.
    """
    refuse_repeats(ids, name)
    labels = labels.astype(np.int64)
    marks = (hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    mark = fingerprint(ids, labels, classes, marks)
    images.flags.writeable = labels.flags.writeable = False
    return Arrays(name, mark, tuple(ids), labels, tuple(classes), readings or (Reading("all", len(classes)),), images)
