"""The thousand classes of ImageNet-1k, and how logits of its models are read on data that is labelled with some of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from types import MappingProxyType

from robustvit.primitives.reading import Reading

Groups = tuple[tuple[int, ...], ...]


@functools.cache
def wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet-1k; the position of each is its class index."""
    return listed("imagenet_classes")


@functools.cache
def class_indices() -> Mapping[str, int]:
    """The class index of each of ImageNet's wnids."""
    return MappingProxyType({wnid: index for index, wnid in enumerate(wnids())})


def readings(classes: Sequence[str]) -> tuple[Reading, ...]:
    """How logits are read as predictions of labels that index `classes`.

    Classes that are all wnids, but not all thousand, are read twice from a thousand logits: `mask` keeps the logits of the classes present;
    `1000way` keeps all, with those of the classes present moved to the front, so that column i is still the logit of label i.
    For any other classes the logits are taken in the model's order.
    """
    index = class_indices()
    if tuple(classes) == wnids() or not set(classes) <= index.keys():
        return (Reading("all", len(classes)),)
    present = tuple(index[wnid] for wnid in classes)
    absent = tuple(i for wnid, i in index.items() if wnid not in set(classes))
    return Reading("mask", len(present), present, len(index)), Reading("1000way", len(index), present + absent, len(index))


def reading_with_rest(name: str, groups: Groups) -> Reading:
    """The reading of a thousand logits as groups of classes, with one group more for all classes that belong to none."""
    rest = tuple(sorted(set(range(len(wnids()))) - {index for group in groups for index in group}))
    return Reading(name, len(groups) + 1, outputs=len(wnids()), groups=(*groups, rest))


@functools.cache
def listed(name: str) -> tuple[str, ...]:
    """The wnids of a list that ships with robustvit, sorted: the order of their logits among the thousand."""
    return tuple((resources.files("robustvit.data") / f"{name}.txt").read_text(encoding="ascii").split())
