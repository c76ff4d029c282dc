"""What a store holds on each question: which cells its runs asked, whose weights, on what data, and the rows that answer them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustvit.errors import StoreDamaged
from robustvit.records.manifest import DataFacts, ModelFacts
from robustvit.records.records import Piece, Question, cover, read
from robustvit.records.records import rows as counted
from robustvit.records.store import Store
from robustvit.spec.sample_order import SHARD

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A question of the latest run that asked it. weights: pretrained, random, …; data: as the run met it."""

    question: Question
    weights: str
    data: DataFacts

    @property
    def variant(self) -> tuple[str, str]:
        """The scenario and its severity."""
        return self.question.scenario, self.question.severity


@dataclass(frozen=True)
class Answer:
    """The first `asked` rows of a cell, as far as they are here, and what was told beside them.

    status: complete, partial or failed, and the reason of the latter two. A failed cell has no rows.
    """

    rows: pd.DataFrame
    status: str
    reason: str = ""
    seconds: float = 0.0
    versions: frozenset[str] = field(default_factory=frozenset)
    environments: frozenset[str] = field(default_factory=frozenset)


def opened(store: Store | Path | str) -> Store:
    """The store itself, or the one at a path. Raises StoreError where there is none."""
    return store if isinstance(store, Store) else Store(store)


def asked(store: Store, suite: str | None = None, models: Iterable[str] | None = None) -> list[Asked]:
    """Every question of the store's runs, in the order they asked it.

    Where runs asked the same of a model with another version of a plug-in or of the data, the latest run's cell is the one: rows of
    different questions are never mixed. Raises StoreError for a suite or model that no run asked for.
    """
    facts = _facts(store)
    latest: dict[tuple[Any, ...], Question] = {}
    for question in store.questions(suite, models):
        key = (*place(question), question.suite, question.model, question.precision, question.view, question.link)
        earlier = latest.get(key)
        if earlier is not None:
            log.info("%s %s of %s was asked as %s and as %s", *place(question)[2:4], question.model, earlier.cell, question.cell)
        if earlier is None or facts[question.suite, question.cell].run >= facts[earlier.suite, earlier.cell].run:
            latest[key] = question
    return [facts[question.suite, question.cell].of(question) for question in _furthest(store, latest)]


def _furthest(store: Store, asked: Mapping[tuple[Any, ...], Question]) -> list[Question]:
    """The questions, of each chain of attacks one link only: the first that failed, else the last that every sample has come to, else the first."""
    chains: dict[tuple[Any, ...], list[Question]] = {}
    for key, question in asked.items():
        chains.setdefault(key[:-1], []).append(question)
    return [links[0] if len(links) == 1 else _telling(store, links) for links in chains.values()]


def _telling(store: Store, links: Sequence[Question]) -> Question:
    ordered = sorted(links, key=lambda question: question.link)
    failed = [one for one in ordered if store.failure(one.cell) is not None]
    reached = [one for one in ordered[1:] if counted(store.pieces(one.cell)) >= one.asked]
    return failed[0] if failed else reached[-1] if reached else ordered[0]


def place(question: Question) -> tuple[Any, ...]:
    """What makes two models' cells answers to the same question: their transforms, data, scenario, severity, parameters, seed and precision."""
    return (
        question.transforms, question.data, question.scenario, question.severity, question.params, question.seed, question.precision,
        question.storage,
    )  # fmt: skip


def answer(store: Store, question: Question, columns: Sequence[str] | None = None) -> Answer:
    """The rows of a cell, or why there are none. columns: read only these, as far as the cell has them (`sample` always)."""
    pieces = [piece for piece in cover(store.pieces(question.cell)) if piece.shard * SHARD + piece.start < question.asked]
    failure = store.failure(question.cell)
    try:
        about = [store.about(piece) for piece in pieces]
        names = None if columns is None else ["sample", *(name for name in columns if name != "sample")]
        rows = read(pieces, names) if pieces else pd.DataFrame({"sample": pd.Series(dtype="str")})
    except StoreDamaged as error:
        return Answer(pd.DataFrame({"sample": pd.Series(dtype="str")}), "failed", str(error))
    rows = rows[_positions(pieces) < question.asked].reset_index(drop=True)
    whole = Answer(
        rows,
        "complete",
        seconds=float(sum(float(note.get("seconds", 0.0)) for note in about)),
        versions=frozenset(str(note["version"]) for note in about if "version" in note),
        environments=frozenset(str(note["environment"]) for note in about if "environment" in note),
    )
    if len(rows) >= question.asked and question.link < question.links:
        return replace(
            whole, status="partial", reason=f"{question.link} of {question.links} attacks, the last {question.attack}: an upper bound"
        )
    if len(rows) >= question.asked:
        return whole
    if failure is not None:
        return replace(whole, rows=rows.iloc[:0], status="failed", reason=failure)
    bound = f", {question.link} of {question.links} attacks: an upper bound" if question.link < question.links else ""
    return replace(whole, status="partial", reason=f"{len(rows)} of {question.asked} samples{bound}")


def _positions(pieces: Sequence[Piece]) -> np.ndarray:
    """The place in evaluation order of each row that `records.read` gives for these pieces."""
    reached: dict[int, int] = {}
    spans = []
    for piece in pieces:
        spans.append(piece.shard * SHARD + np.arange(reached.get(piece.shard, piece.start), piece.stop))
        reached[piece.shard] = piece.stop
    return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class _Facts:
    run: int
    weights: str
    data: DataFacts

    def of(self, question: Question) -> Asked:
        return Asked(question, self.weights, self.data)


def _facts(store: Store) -> dict[tuple[str, str], _Facts]:
    """What the last manifest that asked a cell says about it, by (suite, cell)."""
    found: dict[tuple[str, str], _Facts] = {}
    for run, manifest in enumerate(store.manifests()):
        for cell in manifest.cells:
            card = manifest.models.get(cell.model, ModelFacts())
            found[manifest.suite.name, cell.cell] = _Facts(run, card.weights_kind, manifest.data[cell.data_fingerprint])
    return found
