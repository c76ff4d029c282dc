"""Which version of its plug-ins, and which content of its data, a number stands on: numbers of different editions are not compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from robustvit.errors import few
from robustvit.records.manifest import DataFacts

_IN_MEMORY = ("digits", "npz")  # data sets whose fingerprint always covered every pixel
_MOST = 20  # plug-ins or contents that a row names; of more, how many there are


@dataclass(frozen=True)
class Edition:
    """plugins: names and versions of what a scenario and its storage are made of. data, content: a data set and its fingerprint.

    by_names: whether the content is known by names and sizes alone, as it was to earlier versions.
    """

    plugins: frozenset[tuple[str, str]] = frozenset()
    data: str = ""
    content: str = ""
    by_names: bool = False

    @classmethod
    def of(cls, description: Mapping[str, Any], data: DataFacts) -> Edition:
        """That of a cell. description: its canonical question, empty where the store does not hold it. data: as a run opened it."""
        if "scenario" not in description:
            return cls()
        plugins = frozenset((*_versions(description["scenario"]), *_versions(description.get("storage"))))
        named = description["data"]
        own = ", ".join(f"{key}={value}" for key, value in sorted(named["params"].items()))
        by_names = data.identified_by is None and named["name"].partition("?")[0] not in _IN_MEMORY
        return cls(plugins, f"{named['name']}({own})" if own else named["name"], str(description["data_fingerprint"]), by_names)


def mixed(editions: Iterable[Edition]) -> str:
    """Why numbers of these editions make no average, "" where they do: `fog was computed as version 1 and as version 2`."""
    versions: dict[str, set[str]] = {}
    contents: dict[str, set[str]] = {}
    for one in editions:
        for name, version in one.plugins:
            versions.setdefault(name, set()).add(version)
        if one.content:
            contents.setdefault(one.data, set()).add(one.content)
    plugins = [
        f"{name} was computed as version {' and as version '.join(sorted(found))}" for name, found in versions.items() if len(found) > 1
    ]
    data = [
        f"data '{name}' has {len(found)} contents ({few(sorted(c[:6] for c in found))})"
        for name, found in contents.items()
        if len(found) > 1
    ]
    return "; ".join((*sorted(plugins), *sorted(data)))


def unequal(a: Edition, b: Edition) -> str:
    """Why the cells of two sides, of these editions, are not compared, "" where they are; names both."""
    if a.content and b.content and a.content != b.content:
        return f"other images of '{a.data}': content {a.content[:6]} and {b.content[:6]}"
    ours, theirs = dict(a.plugins), dict(b.plugins)
    other = [f"{name} {ours[name]} and {theirs[name]}" for name in sorted(ours) if name in theirs and ours[name] != theirs[name]]
    return f"other versions: {', '.join(other)}" if other else ""


class EditionText(NamedTuple):
    """The plug-ins of some cells with their versions, `fog 1, jpeg 1`; their data with the beginnings of fingerprints, `digits 6ad475`."""

    plugins: str
    contents: str


def edition_texts(rows: Sequence[Sequence[Edition]]) -> list[EditionText]:
    """The texts of the cells that each row of a leaderboard is of."""
    return [EditionText(_plugins(editions), _contents(editions)) for editions in rows]


def differences(rows: pd.DataFrame, keys: list[str]) -> dict[Any, str]:
    """What distinguishes groups of leaderboard rows that tables put under the same columns, by their `keys`.

    `fog 1, digits 6ad475`: the plug-ins and data that another group of the same suite and base has in another version or with another
    content, as this group has them. Groups that differ in nothing are absent.
    """
    named = {key: _pairs(part) for key, part in rows.groupby(keys, sort=False)}
    beside = {key: (part["suite"].iloc[0], part["base"].iloc[0]) for key, part in rows.groupby(keys, sort=False)}
    found = {}
    for key, own in named.items():
        others = [pairs for other, pairs in named.items() if beside[other] == beside[key]]
        apart = [name for name in own if len(frozenset[str]().union(*(pairs.get(name, frozenset()) for pairs in others))) > 1]
        if apart:
            found[key] = ", ".join(f"{name} {' and '.join(sorted(own[column, name]))}" for column, name in sorted(apart))
    return found


def _pairs(part: pd.DataFrame) -> dict[tuple[str, str], frozenset[str]]:
    """The versions and contents of the cells of some rows, by column and name: a data set may be nested in a plug-in and evaluated, too."""
    found: dict[tuple[str, str], set[str]] = {}
    cells = part[part["cell"] != ""]
    for column, text in ((name, text) for name in ("plugins", "contents") for text in dict.fromkeys(cells[name])):
        for pair in re.split(r", (?![^(]*\))", text) if text else ():
            match = re.fullmatch(r"(.+?) (\S+?)( \(by names and sizes\))?", pair)
            if match:
                found.setdefault((column, match[1]), set()).add(match[2] + (match[3] or ""))
    return {name: frozenset(values) for name, values in found.items()}


def _plugins(editions: Iterable[Edition]) -> str:
    return _listed({f"{name} {version}" for one in editions for name, version in one.plugins}, "plug-ins")


def _contents(editions: Iterable[Edition]) -> str:
    names = {f"{one.data} {one.content[:6]}{' (by names and sizes)' * one.by_names}" for one in editions if one.content}
    return _listed(names, "contents")


def _versions(node: Any) -> Iterator[tuple[str, str]]:
    """The plug-ins in a canonical Spec by name: the version, of a nested model the fingerprint, of nested data both, `1/99c30b`."""
    if not isinstance(node, Mapping) or "params" not in node:
        return
    version = [str(node["version"])] if node.get("kind") and node["kind"] != "model" else []
    content = [str(node["params"]["fingerprint"])[:6]] if "fingerprint" in node["params"] else []
    if version or content:
        yield node["name"], "/".join(version + content)
    for value in node["params"].values():
        yield from _versions(value)


def _listed(texts: set[str], what: str) -> str:
    return ", ".join(sorted(texts)) if len(texts) <= _MOST else f"{len(texts)} {what}"
