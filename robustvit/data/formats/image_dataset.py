"""The one class of the built-in data sets: the fields of the `Data` protocol, and a function that reads the image of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from robustvit.data.formats.fingerprint import content_fingerprint, fingerprint, refuse_repeats
from robustvit.data.formats.left_out import LeftOut
from robustvit.errors import DataUnreadable
from robustvit.primitives.batch import Sample, Traits, described
from robustvit.primitives.reading import Reading

MOST_CLASSES = 1_000_000

Read = TypeVar("Read", bound=Callable[[int], np.ndarray])


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset(Generic[Read]):
    """N labelled images, read on demand.

    read: from the index of a sample to its image, (H, W, 3) uint8 RGB; raises DataUnreadable. ids: N, all different. labels: (N,) int64,
    indices into `classes`. ignored: what was found among the images and is left out. former_fingerprint: the one under which versions that
    did not read any bytes of the images kept rows of this data, "" where it was the same.
    """

    name: str
    read: Read
    ids: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    readings: tuple[Reading, ...]
    fingerprint: str
    source: str = "original"
    traits: Traits = field(default_factory=Traits)
    ignored: LeftOut = field(default_factory=LeftOut)
    former_fingerprint: str = ""

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.read(index), int(self.labels[index]))


def image_dataset(
    name: str, read: Read, *, ids: Sequence[str], labels: Sequence[int] | np.ndarray, classes: Sequence[str], readings: tuple[Reading, ...],
    marks: Iterable[object], source: str = "original", traits: Traits | None = None, ignored: LeftOut | None = None,
) -> ImageDataset[Read]:  # fmt: skip
    """The data set of these samples.

    Its fingerprint covers ids, labels, classes and `marks` (see `fingerprint`), and of encoded images the bytes of the first 64.

    The labels are copied and become read-only. Raises DataUnreadable where two samples have the same id.
    """
    refuse_repeats(ids, name)
    indices = read_only_labels(labels)
    names = fingerprint(ids, indices, classes, marks)
    content = content_fingerprint(names, ids, read)
    former = "" if content == names else names
    own, left_out = traits or Traits(), ignored or LeftOut()
    return ImageDataset(name, read, tuple(ids), indices, tuple(classes), readings, content, source, own, left_out, former)


def numbered_classes(count: int, what: str) -> list[str]:
    """The names "0", "1", … of so many classes that have none. Raises DataUnreadable, beginning with `what`, for more than any data has."""
    if count > MOST_CLASSES:
        raise DataUnreadable(f"{what}: {count:,} classes are more than {MOST_CLASSES:,}; class indices begin at 0, without large gaps.")
    return [str(i) for i in range(count)]


def read_only_labels(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """A read-only copy of class indices, (N,) int64."""
    copy = np.array(labels, dtype=np.int64)
    copy.flags.writeable = False
    return copy
