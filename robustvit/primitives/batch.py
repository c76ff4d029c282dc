"""Samples, data sets and batches: images with their labels and ids."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    must not be evaluated on a model whose classes are not matched by name. channels: of its images, three for RGB.
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
    channels: int = 3


def traits(data: Data) -> Traits:
    """The traits of a data set, or the defaults where it has none."""
    found: Traits = getattr(data, "traits", Traits())
    return found


def described(data: Any) -> str:
    """A data set in a few words, in place of its ids and labels: `<ImageDataset digits: 500 samples, 10 classes>`."""
    return f"<{type(data).__name__} {data.name}: {len(data):,} samples, {len(data.classes):,} classes>"


def left_out(data: Data) -> str:
    """What was found among the images of a data set and is left out, such as `3 linked folders`; "" where nothing was."""
    return str(getattr(data, "ignored", None) or "")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Where training is. step: counted from 0, of `steps` in all; epochs: passes over the data in all. By default at its end."""

    step: int = 1
    steps: int = 1
    epochs: int = 1

    @property
    def done(self) -> float:
        """The share of the steps that are done, from 0 to 1."""
        return self.step / self.steps

    @property
    def epoch(self) -> int:
        """The epoch, counted from 0."""
        return min(self.step * self.epochs // self.steps, self.epochs - 1)

    def ramp(self, epochs: float) -> float:
        """What rises linearly from 0 to 1 over so many epochs, and then stays; 1 at the end of training."""
        return 1.0 if epochs <= 0 or self.done >= 1 else min(1.0, self.done * self.epochs / epochs)


@dataclass(frozen=True, slots=True)
class Batch:
    """images: (N, 3, H, W) float32 in [0, 1]; labels: (N,) int64; ids: N sample ids.

    classes: how many the labels are of, None where that is not known. What training adds, where it does: soft_labels: (N, K) float32, a
    distribution over the classes for each image, in place of its label; crafted: (N, 3, H, W), the adversarial images that were made of
    `images`; progress: where training is.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    soft_labels: Tensor | None = None
    crafted: Tensor | None = None
    progress: TrainingStep = TrainingStep()
    classes: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, keep: Tensor) -> Batch:
        """The rows that a boolean mask or an index tensor names."""
        index = torch.arange(len(self), device=self.labels.device)[keep].cpu()
        return self._rows(lambda of: of[keep], tuple(self.ids[i] for i in index.tolist()))

    @property
    def targets(self) -> Tensor:
        """What a loss compares logits with: the soft labels where there are any, else the labels."""
        return self.labels if self.soft_labels is None else self.soft_labels

    @property
    def shown(self) -> Tensor:
        """The images that a model is trained on: the adversarial ones where there are any, else the images."""
        return self.images if self.crafted is None else self.crafted

    def with_images(self, images: Tensor) -> Batch:
        """The same samples, other pixels."""
        return replace(self, images=images)

    def with_soft_labels(self, soft_labels: Tensor) -> Batch:
        """The same samples with a distribution over classes for each, (N, K)."""
        return replace(self, soft_labels=soft_labels)

    def with_crafted(self, crafted: Tensor) -> Batch:
        """The same samples with adversarial images beside their own."""
        return replace(self, crafted=crafted)

    def at(self, progress: TrainingStep) -> Batch:
        """The same samples at another place of training."""
        return replace(self, progress=progress)

    def chunks(self, rows: int) -> Iterator[Batch]:
        """Consecutive parts of at most `rows` rows."""
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            yield self._rows(operator.itemgetter(part), self.ids[part])

    def _rows(self, some: Callable[[Tensor], Tensor], ids: tuple[str, ...]) -> Batch:
        soft, crafted = (None if of is None else some(of) for of in (self.soft_labels, self.crafted))
        return Batch(some(self.images), some(self.labels), ids, soft, crafted, self.progress, self.classes)
