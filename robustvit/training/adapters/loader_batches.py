"""What a loop hands to its model, images with labels and perhaps ids, as the Batch of a defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustvit.errors import BadParameter, with_article
from robustvit.primitives.batch import Batch

_NAMES = ("pixel_values", "images", "image"), ("labels", "label", "targets", "target"), ("ids", "id")


class Unpacked(NamedTuple):
    """images: (N, 3, H, W) as the model takes them; targets: (N,) labels or (N, K) soft labels; ids: of the samples, None where unknown."""

    images: Tensor
    targets: Tensor
    ids: Tensor | Sequence[Any] | None


def unpacked(batch: Any) -> Unpacked:
    """The parts of a batch of a data loader: (images, labels), (images, labels, ids), or a mapping such as {pixel_values, labels, ids}.

    Raises BadParameter for anything else.
    """
    if isinstance(batch, Mapping):
        images, targets, ids = (next((batch[name] for name in names if name in batch), None) for names in _NAMES)
        if isinstance(images, Tensor) and isinstance(targets, Tensor):
            return Unpacked(images, targets, ids)
        raise BadParameter(f"a batch has the keys {', '.join(map(str, batch))}; a defense needs pixel_values (or images) and labels.")
    if isinstance(batch, Sequence) and 2 <= len(batch) <= 3 and all(isinstance(one, Tensor) for one in batch[:2]):
        return Unpacked(batch[0], batch[1], batch[2] if len(batch) == 3 else None)
    raise BadParameter(
        f"a batch is {with_article(type(batch).__name__)}; a defense takes (images, labels), (images, labels, ids), or a mapping of these."
    )


def training_batch(pixels: Tensor, targets: Tensor, ids: Sequence[str]) -> Batch:
    """Pixels in [0, 1], labels (N,) of whole numbers or soft labels (N, K), and ids as a Batch. Raises BadParameter for other targets."""
    if not isinstance(targets, Tensor) or len(targets) != len(pixels):
        what = f"{len(targets)} targets" if isinstance(targets, Tensor) else f"targets of type {type(targets).__name__}"
        raise BadParameter(f"a batch of {len(pixels)} images has {what}.")
    if targets.dim() == 1 and not targets.is_floating_point():
        return Batch(pixels, targets.long(), tuple(ids))
    if targets.dim() == 2 and targets.is_floating_point():
        if not bool((targets >= 0).all()) or not torch.allclose(
            targets.float().sum(dim=1), targets.new_ones(len(targets)).float(), atol=1e-3
        ):
            raise BadParameter("the soft labels are no distributions over the classes: rows must be from 0 and sum to 1.")
        return Batch(pixels, targets.argmax(dim=1), tuple(ids), soft_labels=targets.float())
    raise BadParameter(
        f"targets are {tuple(targets.shape)} {targets.dtype}; a defense takes labels (N,) of whole numbers or soft labels (N, K)."
    )


def names_of(ids: Tensor | Sequence[Any], rows: int) -> tuple[str, ...]:
    """Ids as text. Raises BadParameter unless there is one for each of the rows."""
    listed = ids.tolist() if isinstance(ids, Tensor) else ids
    if isinstance(listed, str) or not isinstance(listed, Sequence) or len(listed) != rows:
        count = len(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else listed
        raise BadParameter(f"a batch of {rows} images has the ids {count!r}; give one id for each image, or none at all.")
    return tuple(map(str, listed))
