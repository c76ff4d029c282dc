"""Data sets that are small enough for memory: one array of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading

ArrayDataset: TypeAlias = ImageDataset[Callable[[int], np.ndarray]]


def array_dataset(
    name: str, images: np.ndarray, labels: np.ndarray, *, ids: Sequence[str], classes: Sequence[str], readings: tuple[Reading, ...] = (),
    traits: Traits | None = None,
) -> ArrayDataset:  # fmt: skip
    """The data set of `images`, (N, H, W, 3) uint8 RGB, which become read-only; its fingerprint covers every pixel.

    traits: name the number of channels where it is another.

    readings: default, the model's logits in the order of `classes`. Raises DataUnreadable where two samples have the same id.
    """
    images.flags.writeable = False
    marks = (hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    own = readings or (Reading("all", len(classes)),)
    return image_dataset(name, images.__getitem__, ids=ids, labels=labels, classes=classes, readings=own, marks=marks, traits=traits)
