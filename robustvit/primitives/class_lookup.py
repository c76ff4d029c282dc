"""Finds names of classes among those of a model: as wnids, or as words without regard to how they are spelt."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from timm.data.imagenet_info import ImageNetInfo

from robustvit.errors import ModelError, few

IMAGENET = 1000  # classes of ImageNet-1k, in the order of their wnids
_WNID = re.compile(r"n\d{8}(?=\W|_|$)")
_PLACEHOLDER = re.compile(r"(label|class|cls|category|target) ?\d+|")  # of a plain name
_KNOWN = 0.5  # share of wnids whose words must be found where they are expected, before the rest, named otherwise, is taken to be too


class FoundNames(NamedTuple):
    """places: the logit of each name that was found, by its position. wanted: how many were looked up. logits: how many there are."""

    places: dict[int, int]
    wanted: int
    logits: int
    by: str
    translated: bool = False

    def order(self) -> tuple[int, ...] | None:
        """The logit of every name; None where some are missing.

        Words for a wnid differ between lists. So where one side has wnids and the other words, it is enough that half are found and all
        of these at their own position.
        """
        if len(self.places) == self.wanted:
            return tuple(self.places[i] for i in range(self.wanted))
        agree = self.wanted == self.logits and all(i == place for i, place in self.places.items())
        return tuple(range(self.wanted)) if self.translated and agree and len(self.places) >= _KNOWN * self.wanted else None


def named_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of classes for a model's card: () where they name nothing, as numbers do."""
    return tuple(classes) if names_classes(classes) else ()


def names_classes(names: Sequence[str]) -> bool:
    """Whether these are names of classes: all different, not all numbers, and none a placeholder such as `LABEL_0`."""
    plain = [_plain(name) for name in names]
    numbered = all(name.isdecimal() for name in plain)
    return not numbered and len(set(plain)) == len(plain) and not any(_PLACEHOLDER.fullmatch(name) for name in plain)


def imagenet_names(names: Sequence[str], whose: str) -> tuple[str, ...]:
    """The names themselves; wnids in their place where they are the words of ImageNet-1k in its order, some of which occur twice.

    Two classes are called crane, and by their first words two are called cardigan and two maillot. Names that occur twice name nothing,
    unless each stands where ImageNet's words are equal, too, and whatever else is found stands at its own position. Raises ModelError where
    most are ImageNet's in another order: which of two equal names is which class cannot be told. whose: for the message.
    """
    repeated = _repeated(names, _plain)
    if len(names) != IMAGENET or not repeated:
        return tuple(names)
    thousand = wordnet("imagenet-1k")
    places = look_up(tuple(thousand), names).places
    if len(places) < _KNOWN * IMAGENET:
        return tuple(names)
    known = [set(group) for group in _repeated(tuple(thousand.values()), _first)]
    if all(any(set(group) <= pair for pair in known) for group in repeated) and all(i == place for i, place in places.items()):
        return tuple(thousand)
    twice = few([f"'{names[group[0]]}' at {' and '.join(map(str, group))}" for group in repeated])
    raise ModelError(
        f"{whose} has {len(places)} of ImageNet's names of classes, and some more than once: {twice}. In ImageNet's own order it would be "
        "known which class is which; in this one it is not. Give each class its wnid, or add classes=by_position to the model's address "
        "where its logits are in the order of the data's labels."
    )


def look_up(wanted: Sequence[str], own: Sequence[str]) -> FoundNames:
    """Looks names up among a model's, in the way that finds the most."""
    ids, own_ids = _wnids(wanted), _wnids(own)
    if ids and own_ids:
        return FoundNames(_places(ids, own_ids, str), len(wanted), len(own), "wnid")
    texts, own_texts = _words(ids) or wanted, _words(own_ids) or own
    ways: tuple[Callable[[str], str], ...] = (_plain, _first)
    places = max((_places(texts, own_texts, way) for way in ways), key=len)
    return FoundNames(places, len(wanted), len(own), "name", bool(ids) != bool(own_ids))


def _places(wanted: Sequence[str], own: Sequence[str], form: Callable[[str], str]) -> dict[int, int]:
    """Where each name is among the model's, for names that occur once on both sides."""
    left, right = [form(name) for name in wanted], [form(name) for name in own]
    once, asked = Counter(right), Counter(left)
    at = {name: i for i, name in enumerate(right) if once[name] == 1}
    return {i: at[name] for i, name in enumerate(left) if asked[name] == 1 and name in at}


def _wnids(names: Sequence[str]) -> tuple[str, ...]:
    """The wnids that all of the names begin with; none where one has none."""
    found = [match[0] for match in map(_WNID.match, names) if match]
    return tuple(found) if len(found) == len(names) else ()


def _words(ids: Sequence[str]) -> tuple[str, ...]:
    """WordNet's words for wnids; a wnid without any stands for itself."""
    if not ids:
        return ()
    known = {**wordnet("imagenet-22k"), **wordnet("imagenet-1k")}  # some of the thousand are not among the later 22 thousand
    return tuple(known.get(wnid, wnid) for wnid in ids)


@functools.cache
def wordnet(subset: str) -> dict[str, str]:
    """The wnids of ImageNet-1k, or of all of it, in the order of a model's logits, with WordNet's words for each."""
    info = ImageNetInfo(subset)
    return dict(zip(info.label_names(), info.label_descriptions(), strict=True))  # type: ignore[no-untyped-call]


def _plain(name: str) -> str:
    """The name without regard to case, `_`, `-` and repeated spaces."""
    return " ".join(re.sub(r"[_-]", " ", unicodedata.normalize("NFKC", name).casefold()).split())


def _first(name: str) -> str:
    return _plain(name.partition(",")[0])


def _repeated(names: Sequence[str], form: Callable[[str], str]) -> list[list[int]]:
    """The positions of each name that occurs more than once."""
    at = defaultdict[str, list[int]](list)
    for i, name in enumerate(names):
        at[form(name)].append(i)
    return [group for group in at.values() if len(group) > 1]
