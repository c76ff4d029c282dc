"""What the attacks in a store did to each sample, so that one can be held against another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from robustvit.records.cells import answer, asked
from robustvit.records.records import Question
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.spec import Spec, Value, canonical, plain, revive, show

Role = Literal["one step", "iterative", "search", "transfer", "other"]

SURFACE = "loss_surface"  # the analysis that compares gradients with the loss
_ATTACKED = ("label", "pred", "attacked", "felled_by")
_SURFACE = ("gradient", "value_slope_error", "value_step_gain", "value_random_gain", "value_probability")
_FOLLOW = ("white-box", "transfer", "minimum-norm")  # families of attacks that follow the model's own gradient


@dataclass(frozen=True)
class Link:
    """One attack and, for each attacked sample, whether it made it fall. eps: inf where the attack knows no bound; ball: as tables show it."""

    name: str
    role: Role
    norm: str
    eps: float
    ball: str
    felled: np.ndarray


@dataclass(frozen=True)
class Trial:
    """A cell of an attack: the samples that were attacked, their labels, and its links, of which most attacks have one.

    same: what the attack is, but for its radius. values: numbers in a picture.
    """

    cell: str
    same: str
    values: int
    samples: pd.Index
    labels: np.ndarray
    links: tuple[Link, ...]

    @property
    def felled(self) -> np.ndarray:
        """Whether each sample has fallen to any link."""
        fallen: np.ndarray = np.any([link.felled for link in self.links], axis=0)
        return fallen


@dataclass
class Evidence:
    """All that a store holds about one model's gradients under one set of circumstances. surfaces: rows of loss_surface by cell."""

    trials: list[Trial] = field(default_factory=list)
    surfaces: dict[str, pd.DataFrame] = field(default_factory=dict)


class Attempts:
    """Gathers the attacks of a store from rows as they are read; what nobody read is read when it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._expected: set[str] = set()
        self._places: dict[str, str] = {}
        self._trials: dict[str, Trial] = {}
        self._surfaces: dict[str, pd.DataFrame] = {}
        self._indexes: list[pd.Index] = []

    def columns(self, question: Question) -> Sequence[str]:
        """The columns of a cell that are wanted here; none of cells that say nothing of gradients."""
        return _ATTACKED if question.kind == "attack" else _SURFACE if question.scenario == SURFACE else ()

    def expect(self, question: Question) -> None:
        """Notes that the evidence beside a cell will be asked for, where that is an attack."""
        if question.kind == "attack":
            self._expected.add(question.cell)

    def hear(self, question: Question, rows: pd.DataFrame) -> None:
        """Keeps what a cell's rows say of gradients."""
        known = self._store.knows(question.cell)
        if not known or not self.columns(question) or question.cell in self._places:
            return
        told = self._store.describe(question.cell)
        self._places[question.cell] = circumstances(told)
        if not len(rows):
            return
        if question.kind == "attack":
            made = trial(question.cell, told, rows)
            self._trials[question.cell] = replace(made, samples=self._shared(made.samples))
        elif told.get("precision") == "float32":  # in less a finite difference measures rounding
            self._surfaces[question.cell] = rows[["sample", *_SURFACE]]

    def gathered(self, models: Iterable[str] | None = None) -> dict[str, Evidence]:
        """The evidence beside each attack that was expected, by cell: cells whose questions differ in nothing but the attack share theirs, in all suites.

        models: whose cells these are; default, any of the store's.
        """
        if not self._expected:
            return {}
        for question in (one.question for one in asked(self._store, None, models)):
            if self.columns(question) and question.cell not in self._places:
                self.hear(question, answer(self._store, question, self.columns(question)).rows)
        found = {place: Evidence() for place in self._places.values()}
        for cell, place in sorted(self._places.items()):
            found[place].trials += [self._trials[cell]] if cell in self._trials else []
            found[place].surfaces |= {cell: self._surfaces[cell]} if cell in self._surfaces else {}
        for evidence in found.values():  # in an order that no reading changes
            evidence.trials.sort(key=lambda one: [(link.name, link.eps) for link in one.links])
        return {cell: found[self._places[cell]] for cell in sorted(self._expected) if cell in self._places}

    def _shared(self, samples: pd.Index) -> pd.Index:
        """An index heard before where it is the same: a hundred cells need no hundred copies."""
        for known in self._indexes:
            if known.equals(samples):
                return known
        self._indexes.append(samples)
        return samples


def circumstances(told: Mapping[str, Any]) -> str:
    """The canonical question of a cell without its scenario: what cells must have in common to be held against each other."""
    return json.dumps({key: value for key, value in told.items() if key not in ("scenario", "after")}, sort_keys=True)


def trial(cell: str, told: Mapping[str, Any], rows: pd.DataFrame) -> Trial:
    """What a cell's rows say of its attack. told: its canonical question."""
    chain = [revive(node) for node in (*told.get("after", ()), *([told["scenario"]] if "scenario" in told else []))]
    kept = rows[rows["attacked"].to_numpy(dtype=bool)]
    fallen = (kept["pred"] != kept["label"]).to_numpy()
    by = kept["felled_by"].to_numpy() if len(chain) > 1 else None
    links = tuple(_link(spec, fallen if by is None else fallen & (by == spec.name)) for spec in chain)
    values = 3 * math.prod(told["view"]["size"])
    same = json.dumps([canonical(spec.without("eps")) for spec in chain])
    return Trial(cell, same, values, pd.Index(kept["sample"]), kept["label"].to_numpy(), links)


def _link(spec: Spec, felled: np.ndarray) -> Link:
    inner = _bounded(spec)
    eps, norm = inner.get("eps"), str(inner.get("norm") or "l2")  # DDN and CW are of l2 and say so nowhere
    return Link(spec.name, _role(spec), norm, _radius(eps), norm if eps is None else f"{norm} {show(eps)}", felled)


def _radius(eps: Value) -> float:
    return math.inf if eps is None else float(plain(eps))


def _bounded(spec: Spec) -> Spec:
    """The attack whose radius an attack keeps: its own, or that of the attack inside it."""
    return next((value for _, value in spec.params if isinstance(value, Spec) and value.kind == "attack"), spec)


def _role(spec: Spec) -> Role:
    """What an attack is in the checks. One that follows gradients and has no number of steps takes one."""
    if _bounded(spec) is not spec:
        return "transfer"
    entry = registry.entries("attack").get(spec.name)
    if entry is None:
        return "other"
    if entry.family == "black-box":
        return "search"
    if entry.family not in _FOLLOW:
        return "other"
    return "one step" if spec.get("steps", 1) == 1 else "iterative"
