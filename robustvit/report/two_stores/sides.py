"""The provenance of two stores beside each other: what they are, and which recorded facts differ."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from robustvit.records.store import Store
from robustvit.report.provenance import FactSheet, Provenance, environment_facts, environments, manifests, provenance
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.paired_cells import OF_RUNS
from robustvit.spec.grouping import grouped

_NONE = "–"
_FIRST = ("command", "samples per cell", *OF_RUNS, "suites", "models", "data", "robustvit", "revision", "torch", "device", "gpu", "CPU")


class Word(NamedTuple):
    """A part of a fact. differs: whether the other side does not have it."""

    text: str
    differs: bool


@dataclass(frozen=True)
class SideHead:
    """A store: its path, what it holds, and when it was run."""

    letter: str
    store: str
    holds: str
    when: str


@dataclass(frozen=True)
class FactPair:
    """A recorded fact of both sides. name: `command`, `torch`, `weights of demo`."""

    name: str
    a: tuple[Word, ...]
    b: tuple[Word, ...]


@dataclass(frozen=True)
class Sides:
    """Two stores, with the facts that differ and those that are the same."""

    heads: tuple[SideHead, SideHead]
    differing: tuple[FactPair, ...]
    same: tuple[tuple[str, str], ...]


def two_sides(a: Leaderboard, b: Leaderboard) -> Sides:
    """The provenance of two leaderboards of stores, fact by fact; of several runs or machines of a store every value once.

    What is recorded of a suite, a model or a data set is compared where both have it.
    """
    known = [provenance(_store(board), board.rows) for board in (a, b)]
    shared = set.intersection(*({(kind, one.title) for kind, sheets in _sheets(one) for one in sheets} for one in known))
    left, right = (_facts(_each(board, one, shared)) for board, one in zip((a, b), known, strict=True))
    names = sorted(dict.fromkeys([*left, *right]), key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    pairs = [(name, left.get(name, _NONE), right.get(name, _NONE)) for name in names]
    differing = [FactPair(name, *_words(x, y)) for name, x, y in pairs if x != y]
    return Sides((_head("A", a), _head("B", b)), tuple(differing), tuple((name, x) for name, x, y in pairs if x == y))


def _head(letter: str, board: Leaderboard) -> SideHead:
    store, rows = _store(board), board.rows
    cells = rows.loc[rows["cell"] != "", ["suite", "cell"]].drop_duplicates()
    models = list(dict.fromkeys(rows["model"]))
    named = ", ".join(models) if len(models) < 4 else f"{len(models)} models"
    suites = ", ".join(dict.fromkeys(rows["suite"]))
    days = sorted({run.started[:10] for run in manifests(store, rows) if run.started})
    when = f"run {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else ""
    return SideHead(letter, str(store.path), f"{named} on {suites}, {len(cells):,} cells", when)


def _store(board: Leaderboard) -> Store:
    assert board.store is not None, "a leaderboard of a store"
    return board.store


def _facts(each: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Facts by their names, several of one name joined."""
    found = {name: list(dict.fromkeys(texts)) for name, texts in grouped((name, text) for name, text in each if text).items()}
    return {name: ("\n" if name.startswith("command") else ", ").join(texts) for name, texts in found.items()}


def _each(board: Leaderboard, known: Provenance, shared: Container[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Every recorded fact by a name that tells it from others."""
    store, rows = _store(board), board.rows
    runs = manifests(store, rows)
    several = len({run.suite.name for run in runs}) > 1
    for run, facts in zip(runs, known.runs, strict=True):
        of = f" of {run.suite.name}" if several else ""
        yield f"command{of}", facts.command
        yield f"samples per cell{of}", dict(facts.facts).get("samples per cell", "")
        yield f"version of suite {run.suite.name}", str(run.suite.version)
    for name in OF_RUNS:
        yield from ((name, str(value)) for value in rows[name].unique())
    for environment in environments(runs, rows):
        yield from environment_facts(store.environment(environment))
    for kind, sheets in _sheets(known):
        for sheet in sheets:
            yield kind, sheet.title
            yield from ((f"{key} of {sheet.title}", text) for key, text in sheet.facts if (kind, sheet.title) in shared)


def _sheets(known: Provenance) -> tuple[tuple[str, tuple[FactSheet, ...]], ...]:
    return ("suites", known.suites), ("models", known.models), ("data", known.data)


def _words(a: str, b: str) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Both texts, with the words that only one has told apart; whole where they have no word in common."""
    left, right = a.split(" "), b.split(" ")
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    if not any(tag == "equal" for tag, *_ in blocks):
        return (Word(a, differs=True),), (Word(b, differs=True),)
    first = [Word(" ".join(left[i:j]), tag != "equal") for tag, i, j, _, _ in blocks if j > i]
    second = [Word(" ".join(right[i:j]), tag != "equal") for tag, _, _, i, j in blocks if j > i]
    return tuple(first), tuple(second)
