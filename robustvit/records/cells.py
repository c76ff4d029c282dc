"""The cells that the runs of a store requested, and the rows that the store holds of them."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustvit.errors import StoreDamaged
from robustvit.records.manifest import DataFacts, ModelFacts
from robustvit.records.questions import setting
from robustvit.records.records import Question, cover, file_rows, read_with_notes
from robustvit.records.records import rows as count_rows
from robustvit.records.records_file import RowFile
from robustvit.records.store import Store
from robustvit.spec.grouping import grouped
from robustvit.spec.sample_order import SHARD

log = logging.getLogger(__name__)
_LOGGED: set[tuple[str, str, frozenset[str]]] = set()  # what was logged in this process


@dataclass(frozen=True)
class StoredCell:
    """A cell as the latest run that requested it describes it.

    weights: pretrained, random, …; data: as that run loaded it; outputs: why the model's outputs are no logits, "" where they are.
    """

    question: Question
    weights: str
    data: DataFacts
    outputs: str = ""

    @property
    def variant(self) -> tuple[str, str]:
        """The scenario and its severity."""
        return self.question.scenario, self.question.severity


@dataclass(frozen=True)
class CellRows:
    """The rows of the requested samples of a cell, as far as they are stored, and what was recorded beside them.

    status: complete, partial, failed or undefined, and the reason of the latter three; the last two have no rows. damage: why it failed.
    """

    rows: pd.DataFrame
    status: str
    reason: str = ""
    seconds: float = 0.0
    versions: frozenset[str] = field(default_factory=frozenset)
    environments: frozenset[str] = field(default_factory=frozenset)
    damage: StoreDamaged | None = None

    @cached_property
    def samples(self) -> pd.Series:
        """The ids of the rows. Of a `RowReader` one object for the same ids in the same order."""
        return self.rows["sample"]


class RowReader:
    """Reads the rows of cells, each cell from disk once, also where a later step needs some of its columns again.

    keep: the columns that a later step needs, by scenario or else by kind of cell; they stay in memory once a cell is read.
    """

    def __init__(self, store: Store, keep: Mapping[str, Sequence[str]]) -> None:
        self.store = store
        self._keep = keep
        self._kept: dict[Question, pd.DataFrame] = {}
        self._samples: list[pd.Series] = []
        self._descriptions: dict[str, Mapping[str, Any]] = {}

    def rows(self, question: Question, columns: Sequence[str] | None = None) -> CellRows:
        """`rows_of` a cell, with the columns to keep among them."""
        keep = self._columns(question)
        found = rows_of(self.store, question, None if columns is None else sorted({*columns, *keep}))
        found.__dict__["samples"] = samples = self._shared(found.rows["sample"])
        if keep:
            self._kept[question] = found.rows[["sample", *(name for name in keep if name in found.rows)]].assign(sample=samples)
        return found

    def kept(self, question: Question) -> pd.DataFrame:
        """The columns to keep of a cell; read now where `rows` has not read them."""
        if question not in self._kept:
            self.rows(question, ())
        return self._kept[question]

    def description(self, cell: str) -> Mapping[str, Any]:
        """The canonical question behind a cell id; empty where the store does not hold it, or holds it damaged: its rows tell that."""
        if cell not in self._descriptions:
            try:
                self._descriptions[cell] = self.store.describe(cell) if self.store.knows(cell) else {}
            except StoreDamaged:
                self._descriptions[cell] = {}
        return self._descriptions[cell]

    def _columns(self, question: Question) -> Sequence[str]:
        return self._keep.get(question.scenario, self._keep.get(question.kind, ()))

    def _shared(self, samples: pd.Series) -> pd.Series:
        """The same ids in memory once: a hundred cells of the same samples need no hundred copies."""
        for known in self._samples:
            if known.equals(samples):
                return known
        self._samples.append(samples)
        return samples


def open_store(store: Store | Path | str) -> Store:
    """The store itself, or the one at a path. Raises StoreError where there is none."""
    return store if isinstance(store, Store) else Store(store)


def stored_cells(store: Store, suite: str | None = None, models: Iterable[str] | None = None) -> list[StoredCell]:
    """Every cell that the runs of a store requested, in the order they requested it.

    Where runs requested the same of a model with another version of a plug-in or of the data, the cell is the latest run's: rows of
    different cells are never mixed. Of a chain of attacks one step only: the first that failed, else the last that all samples have come
    to, else the first. Raises StoreError for a suite or model that no run requested.
    """
    return [step_to_show(store, steps) for steps in stored_chains(store, suite, models)]


def stored_chains(store: Store, suite: str | None = None, models: Iterable[str] | None = None) -> list[list[StoredCell]]:
    """As `stored_cells`, with all steps of a chain of attacks, first to last; any other cell by itself. Raises as `stored_cells` does."""
    facts = _facts(store)
    latest: dict[tuple[Any, ...], Question] = {}
    for question in store.questions(suite, models):
        key = (*setting(question), question.suite, question.model, question.precision, question.view, question.link)
        earlier = latest.get(key)
        if earlier is not None:
            log.info("%s %s of %s was requested as %s and as %s", *_named(question), earlier.cell, question.cell)
            _log_other_images(store, question, earlier, facts)
        if earlier is None or facts[question.suite, question.cell].run >= facts[earlier.suite, earlier.cell].run:
            latest[key] = question
    chains = grouped((key[:-1], facts[question.suite, question.cell].of(question)) for key, question in latest.items())
    return [sorted(steps, key=lambda one: one.question.link) for steps in chains.values()]


def step_to_show(store: Store, steps: Sequence[StoredCell]) -> StoredCell:
    """The step of a chain that `stored_cells` has."""
    if len(steps) == 1:
        return steps[0]
    failed = [one for one in steps if store.failure(one.question.cell) is not None]
    reached = [one for one in steps[1:] if count_rows(store.files(one.question.cell)) >= one.question.asked]
    return failed[0] if failed else reached[-1] if reached else steps[0]


def _named(question: Question) -> tuple[str, str, str]:
    return question.scenario, question.severity, question.model


def _log_other_images(store: Store, a: Question, b: Question, facts: Mapping[tuple[str, str], _Facts]) -> None:
    """Logs, once for each store, model and data set, that only the latest of two sets of images under one name is shown."""
    contents = frozenset((a.data_fingerprint, b.data_fingerprint))
    key = (str(store.path), a.model, contents)
    by_names = any(facts[one.suite, one.cell].data.identified_by is None for one in (a, b))
    if len(contents) == 2 and not by_names and key not in _LOGGED:
        _LOGGED.add(key)
        log.error(
            "%s: %s was evaluated on two sets of images called '%s' (contents %s); those of the latest run are shown.",
            store.path, a.model, a.data, " and ".join(sorted(one[:6] for one in contents)),
        )  # fmt: skip


def without_scenario(description: Mapping[str, Any], *others: str) -> str:
    """The canonical question of a cell without its scenario, by which cells are compared. others: further keys to leave out."""
    left_out = ("scenario", "after", "attack_through", "surrogate", *others)
    return json.dumps({key: value for key, value in description.items() if key not in left_out}, sort_keys=True)


def rows_of(store: Store, question: Question, columns: Sequence[str] | None = None) -> CellRows:
    """The rows of a cell, or why there are none. columns: read only these, as far as the cell has them (`sample` always)."""
    if question.undefined:
        return CellRows(pd.DataFrame({"sample": pd.Series(dtype="str")}), "undefined", question.undefined)
    files = [file for file in cover(store.files(question.cell)) if file.shard * SHARD + file.start < question.asked]
    failure = store.failure(question.cell)
    try:
        if files or store.knows(question.cell):
            store.describe(question.cell)
        names = None if columns is None else ["sample", *(name for name in columns if name != "sample")]
        rows, notes = read_with_notes(files, names) if files else (pd.DataFrame({"sample": pd.Series(dtype="str")}), [])
    except StoreDamaged as error:
        store.report_damage(error)
        return CellRows(pd.DataFrame({"sample": pd.Series(dtype="str")}), "failed", str(error), damage=error)
    if any(file.shard * SHARD + file.stop > question.asked for file in files):
        rows = rows[_positions(files) < question.asked].reset_index(drop=True)
    whole = CellRows(
        rows,
        "complete",
        seconds=float(sum(float(note.get("seconds", 0.0)) for note in notes)),
        versions=frozenset(str(note["version"]) for note in notes if "version" in note),
        environments=frozenset(str(note["environment"]) for note in notes if "environment" in note),
    )
    if len(rows) >= question.asked and question.link < question.links:
        done = f"{question.link} of {question.links} attacks, the last {question.attack}"
        return replace(whole, status="partial", reason=f"{done}: the rest may fool more")
    if len(rows) >= question.asked:
        return whole
    if failure is not None:
        return replace(whole, rows=without_rows(rows), status="failed", reason=failure)
    bound = f", {question.link} of {question.links} attacks: the rest may fool more" if question.link < question.links else ""
    return replace(whole, status="partial", reason=f"{len(rows)} of {question.asked} samples{bound}")


def without_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table, of the same types. `iloc[:0]`, even copied, would keep the texts of all rows in memory."""
    return _empty(tuple((str(name), kind) for name, kind in rows.dtypes.items())).copy()


@functools.cache
def _empty(columns: tuple[tuple[str, Any], ...]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns})


def _positions(files: Sequence[RowFile]) -> np.ndarray:
    """The position in evaluation order of each row that `records.read` returns for these files."""
    spans = [file.shard * SHARD + np.arange(start, file.stop) for file, start in file_rows(files)]
    return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class _Facts:
    run: int
    weights: str
    data: DataFacts
    outputs: str

    def of(self, question: Question) -> StoredCell:
        return StoredCell(question, self.weights, self.data, self.outputs)


def _facts(store: Store) -> dict[tuple[str, str], _Facts]:
    """What the last manifest that requested a cell says about it, by (suite, cell)."""
    found: dict[tuple[str, str], _Facts] = {}
    for run, manifest in enumerate(store.manifests()):
        for cell in manifest.cells:
            card = manifest.models.get(cell.model, ModelFacts())
            found[manifest.suite.name, cell.cell] = _Facts(run, card.weights_kind, manifest.data[cell.data_fingerprint], card.outputs)
    return found
