"""Which logit of a model is which class of a data set: by name, where both name their classes; else by position.

Names are compared as wnids where both sides have these, and else as text: without regard to case, `_` and `-` count as spaces, and of
several names separated by commas (`tench, Tinca tinca`) the first may do. Where one side has wnids and the other words, the words of
WordNet that timm ships stand for the wnids. A list of numbers, with `LABEL_0`, blanks or repeats in it, or of another length than the
logits, names nothing. The words of ImageNet-1k in its own order name its classes, though some of them occur twice (`crane`).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from robustvit.errors import ModelError, few
from robustvit.evaluation.datasets import refuse_ambiguous_order
from robustvit.primitives.batch import Data
from robustvit.primitives.class_lookup import IMAGENET, FoundNames, imagenet_names, look_up, names_classes, wordnet
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.reading import Reading
from robustvit.primitives.surgery.heads import refuse_headless
from robustvit.spec.spec import digest


class MatchedClasses(NamedTuple):
    """How a model's logits are read as a data set's labels.

    readings: the data's own, or those that names gave. by: `wnid` or `name`, "" where names decided nothing. order: the logit of each of
    the data's classes, where that is not its own position; None where the readings are the data's own.
    """

    readings: tuple[Reading, ...]
    by: str = ""
    order: tuple[int, ...] | None = None


class Logits(NamedTuple):
    """What the logits of a model are: the names of their classes, () where they are unknown, and how many there are."""

    classes: tuple[str, ...]
    outputs: int


def match_classes(model: Classifier, data: Data, head: Logits | None = None) -> MatchedClasses:
    """Matches the classes of a model with those of a data set. head: its logits after transforms that are not applied yet.

    A data set whose classes are some of the model's is read among these (`mask`) and among all (`1000way`). Raises ModelError, with the
    names that miss, where both name their classes and not all of the data's are among the model's.
    """
    classes, outputs = head or _logits(model, data)
    return _matched(classes, outputs, model.card.label, tuple(data.classes), tuple(data.readings), data.name)


def order_id(matched: MatchedClasses) -> str:
    """What a Cell says of an order that names gave: its hash, "" where the data's own readings hold."""
    return "" if matched.order is None else digest(list(matched.order))


def checked_order(model: Classifier, data: Data, head: Logits | None = None) -> str:
    """`order_id` of the two. head: as for `match_classes`.

    Raises ModelError where the model's logits cannot be read as the data's labels, DataUnreadable where nothing says which class is which.
    """
    matched = match_classes(model, data, head)
    if not matched.by:
        refuse_ambiguous_order(data)
    for reading in matched.readings:
        reading.check(model.outputs if head is None else head.outputs, model.card.label, data.name)
    return order_id(matched)


def reads(model: Classifier, data: Data, head: Logits | None = None) -> bool:
    """Whether a model's outputs can be read as the classes of a data set. head: as for `match_classes`."""
    try:
        checked_order(model, data, head)
    except ModelError:
        return False
    return True


def nested_order(nested: object, model: Classifier, data: Data, head: Logits | None = None) -> str:
    """`order_id` of a nested model on the data, or of the model on a nested data set; "" for anything else."""
    if isinstance(nested, Classifier):
        return "" if nested.card.headless else order_id(match_classes(nested, data))  # attacks on features take models without a head
    if not isinstance(nested, Data) or (model.card.headless and head is None):
        return ""  # analyses of features, too
    return order_id(match_classes(model, nested, head))


def _logits(model: Classifier, data: Data) -> Logits:
    """The model's own. Raises ModelError for a headless one."""
    refuse_headless(model, f"data '{data.name}' has labels")
    return Logits(model.card.classes, model.outputs)


def in_data_order(logits: Tensor, matched: MatchedClasses) -> Tensor:
    """(N, K) logits of the model → those of the data's classes, in their order, as the data's own readings take them."""
    return logits if matched.order is None else logits[:, torch.tensor(matched.order, device=logits.device)]


def read_by(model: Classifier, data: Data) -> Data:
    """The data set with the readings that the names of the model's classes give; itself where they are its own, or a model has no head."""
    if model.card.headless:
        return data
    matched = match_classes(model, data)
    if matched.order is None:
        return data
    copied = copy.copy(data)
    object.__setattr__(copied, "readings", matched.readings)  # data sets are frozen
    return copied


@functools.lru_cache(maxsize=64)
def _matched(
    own: tuple[str, ...], outputs: int, label: str, classes: tuple[str, ...], readings: tuple[Reading, ...], data: str
) -> MatchedClasses:
    own = imagenet_names(own, f"model '{label}'") if len(own) == outputs else own
    if len(own) != outputs or not names_classes(own):
        return MatchedClasses(readings)
    classes = imagenet_names(classes, f"data '{data}'")
    if all(one.columns is None and one.groups is None for one in readings):
        return _whole(own, label, classes, readings, data)
    if all(one.outputs == IMAGENET for one in readings):
        return _of_imagenet(own, label, classes, readings, data)
    return MatchedClasses(readings)


def _whole(own: tuple[str, ...], label: str, classes: tuple[str, ...], readings: tuple[Reading, ...], data: str) -> MatchedClasses:
    """For data whose labels are the logits of a model of its own classes."""
    if len(classes) != readings[0].classes or not names_classes(classes):
        return MatchedClasses(readings)
    found = look_up(classes, own)
    order = found.order()
    if order is None:
        if len(own) != len(classes) and not found.places:
            return MatchedClasses(readings)  # refused for its number of classes
        raise ModelError(_refusal(found, label, data, classes, own))
    if order == tuple(range(len(own))):
        return MatchedClasses(readings, found.by)
    if len(order) == len(own):
        return MatchedClasses(tuple(replace(one, columns=order, outputs=len(own)) for one in readings), found.by, order)
    return MatchedClasses(_among(order, len(own)), found.by, order)


def _of_imagenet(own: tuple[str, ...], label: str, classes: tuple[str, ...], readings: tuple[Reading, ...], data: str) -> MatchedClasses:
    """For data that is read from some of the thousand logits of a model of ImageNet-1k."""
    thousand = tuple(wordnet("imagenet-1k"))
    found = look_up(thousand, own)
    order = found.order()
    if order == tuple(range(len(own))):
        return MatchedClasses(readings, found.by)
    if order is not None and (len(order) == len(own) or all(one.groups is None for one in readings)):
        return MatchedClasses(tuple(_moved(one, order, len(own)) for one in readings), found.by, order)
    if names_classes(classes) and all(one.groups is None for one in readings):
        here = look_up(classes, own)
        if (some := here.order()) is not None:
            return MatchedClasses(_among(some, len(own)), here.by, some)
    if len(own) != IMAGENET:
        return MatchedClasses(readings)  # refused for its number of classes
    raise ModelError(_refusal(found, label, data, thousand, own))


def _moved(reading: Reading, order: tuple[int, ...], outputs: int) -> Reading:
    """The reading of logits whose class i is at order[i]."""
    columns = None if reading.columns is None else tuple(order[i] for i in reading.columns)
    groups = None if reading.groups is None else tuple(tuple(order[i] for i in group) for group in reading.groups)
    return replace(reading, columns=columns, groups=groups, outputs=outputs)


def _among(present: tuple[int, ...], outputs: int) -> tuple[Reading, ...]:
    """Readings among the classes present, and among all, whose column i is still the logit of label i."""
    if len(present) == outputs:
        return (Reading("all", outputs, present, outputs),)
    absent = tuple(i for i in range(outputs) if i not in set(present))
    return Reading("mask", len(present), present, outputs), Reading(f"{outputs}way", outputs, present + absent, outputs)


def _refusal(found: FoundNames, label: str, data: str, classes: Sequence[str], own: Sequence[str]) -> str:
    missing = [f"'{name}'" for i, name in enumerate(classes) if i not in found.places]
    used = set(found.places.values())
    free = [f"'{name}'" for i, name in enumerate(own) if i not in used]
    return (
        f"model '{label}' and data '{data}' both name their classes, and {len(missing)} of the data's {len(classes)} are not among the "
        f"model's: {few(missing)}. The model's that are left: {few(free) or 'none'}. Names are compared without regard to case, _ and -, "
        "and of several separated by commas the first may do. Give both the same names, or add classes=by_position to the model's address "
        "(in Python a Card without classes) where its logits are in the order of the data's labels."
    )
