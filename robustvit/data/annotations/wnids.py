"""The thousand classes of ImageNet-1k, and how its models are read on data that is labelled with some of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

from robustvit.primitives.reading import Reading


@functools.cache
def wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet-1k; the place of each is its class index."""
    return tuple((resources.files("robustvit.data") / "imagenet_classes.txt").read_text(encoding="ascii").split())


def readings(classes: Sequence[str]) -> tuple[Reading, ...]:
    """How logits answer labels that index `classes`.

    Classes that are all wnids, but not all thousand, are read twice from a thousand logits: `mask` lets only the classes present
    compete; `1000way` lets all compete, with those present moved to the front, so that label i is still answered by column i.
    Any other classes are read as the model gives them, in their order.
    """
    index = {wnid: i for i, wnid in enumerate(wnids())}
    if tuple(classes) == wnids() or not set(classes) <= index.keys():
        return (Reading("all", len(classes)),)
    present = tuple(index[wnid] for wnid in classes)
    absent = tuple(i for wnid, i in index.items() if wnid not in set(classes))
    return Reading("mask", len(present), present, len(index)), Reading("1000way", len(index), present + absent, len(index))


@functools.cache
def listed(name: str) -> tuple[str, ...]:
    """The wnids of a list that ships, sorted: the order of their logits among the thousand."""
    return tuple((resources.files("robustvit.data") / f"{name}.txt").read_text(encoding="ascii").split())
