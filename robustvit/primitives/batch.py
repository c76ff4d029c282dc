"""Samples, data sets and batches: images with their labels and ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from robustvit.primitives.reading import Reading
from robustvit.spec.spec import Value

Severity = Literal[1, 2, 3, 4, 5]
Difficulty = Literal[1, 2, 3]
NO_CLASS = -1  # the label of an image of none of a data set's classes


class Sample(NamedTuple):
    """One image: a stable id, RGB uint8 (H, W, 3) at its own size, and its class index."""

    id: str
    image: np.ndarray
    label: int


@runtime_checkable
class Data(Protocol):
    """A data set: sized, indexable, with ids and labels that are known without decoding an image.

    `name` and `fingerprint` identify it (the fingerprint covers ids, sizes and labels, never a path); `classes` are the class names or
    wnids that labels index (NO_CLASS is the label of an image of none of them); `readings` map a model's logits to these labels, and the
    first is the one that is scored. `source` is `original`, `generated` or `released`. A data set may also have `traits`, see Traits, and
    `ignored`, whose text says what was found among its images and is left out.
    """

    name: str
    fingerprint: str
    ids: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    readings: tuple[Reading, ...]
    source: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Traits:
    """Optional facts about a data set; most data sets need none.

    base: the data set whose images these are variants of, by whose name tables group them; "" means itself. scenario, severity: how the
    images were changed before, as tables name it (`fog`, `3`). params: what else distinguishes this data set from its variants. cut: the
    images are squares of so many pixels already, so that a view neither resizes nor crops them for a model of that size. fleeting: there
    are too many images to cache decoded copies, or they are as quickly made again. alike: equal images are expected, as among masks.
    expected: how many images the whole set has, where that is known. filtered: whether its images were chosen because models get them
    wrong, as those of ImageNet-A. facts: further values of each sample besides its label, N values by the column of the Records that takes
    them: a column of the schema, or `fact_NAME` with whole numbers, text or lists of whole numbers. For frames of clips, `against` is the
    number of the frame that each is compared with, −1 for none; the ids of frames end in `#0`, `#1`, …. ambiguous_order: why nothing but a
    user's choice says which class is which label, and how to choose; "" where labels are certain. Such a set is opened in text order, and
    must not be evaluated on a model whose classes are not matched by name.
    """

    base: str = ""
    scenario: str = ""
    severity: str = ""
    params: tuple[tuple[str, Value], ...] = ()
    cut: int | None = None
    fleeting: bool = False
    alike: bool = False
    expected: int | None = None
    filtered: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    ambiguous_order: str = ""


def traits(data: Data) -> Traits:
    """The traits of a data set, or the defaults where it has none."""
    found: Traits = getattr(data, "traits", Traits())
    return found


def left_out(data: Data) -> str:
    """What was found among the images of a data set and is left out, such as `3 linked folders`; "" where nothing was."""
    return str(getattr(data, "ignored", None) or "")


@dataclass(frozen=True, slots=True)
class Batch:
    """images: (N, 3, H, W) float32 in [0, 1]; labels: (N,) int64; ids: N sample ids."""

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, keep: Tensor) -> Batch:
        """The rows that a boolean mask or an index tensor names."""
        index = torch.arange(len(self), device=self.labels.device)[keep].cpu()
        return Batch(self.images[keep], self.labels[keep], tuple(self.ids[i] for i in index.tolist()))

    def with_images(self, images: Tensor) -> Batch:
        """The same samples, other pixels."""
        return replace(self, images=images)

    def chunks(self, rows: int) -> Iterator[Batch]:
        """Consecutive parts of at most `rows` rows."""
        for start in range(0, len(self), rows):
            yield Batch(self.images[start : start + rows], self.labels[start : start + rows], self.ids[start : start + rows])
