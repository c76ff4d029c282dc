"""What the attacks in a store did to each sample, so that attacks on the same model can be compared sample by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from robustvit.records.cells import RowReader, StoredCell, without_scenario
from robustvit.records.records import Question
from robustvit.spec import registry
from robustvit.spec.cell import crafting_id
from robustvit.spec.spec import Spec, canonical, plain, revive, show

Role = Literal["one step", "iterative", "search", "transfer", "other"]

SURFACE = "loss_surface"  # the analysis that compares gradients with the loss
_SURFACE_COLUMNS = ("gradient", "value_slope_error", "value_step_gain", "value_random_gain", "value_probability")
COLUMNS = {"attack": ("label", "pred", "attacked", "felled_by"), SURFACE: _SURFACE_COLUMNS}  # read here, as RowReader keeps them
_FOLLOW = ("white-box", "transfer", "minimum-norm")  # families of attacks that follow the model's own gradient


@dataclass(frozen=True)
class AttackStep:
    """One attack and, per attacked sample, whether it fooled the model. eps: inf for an unbounded attack; ball: as tables show it."""

    name: str
    role: Role
    norm: str
    eps: float
    ball: str
    fooled: np.ndarray


@dataclass(frozen=True)
class AttackCell:
    """A cell of an attack: the samples that were attacked, their labels, and its steps: one, or those of a chain of attacks.

    same: what the attack is, but for its radius. values: how many numbers an image has.
    """

    cell: str
    same: str
    values: int
    samples: pd.Index
    labels: np.ndarray
    steps: tuple[AttackStep, ...]


@dataclass
class ModelAttacks:
    """All attacks on one model in one setting, and the rows of its loss surfaces by cell."""

    cells: list[AttackCell] = field(default_factory=list)
    surfaces: dict[str, pd.DataFrame] = field(default_factory=dict)


class Setting(NamedTuple):
    """The requested attack cells of one model in one setting, and everything that the store holds beside them."""

    requested: list[str]
    attacks: ModelAttacks


def attacks_beside(reader: RowReader, cells: Sequence[StoredCell], others: Iterable[StoredCell]) -> list[Setting]:
    """The attacks and loss surfaces beside each attack among `cells`, by setting.

    Cells share a setting where their canonical questions differ in the scenario alone, whatever their suites. others: the cells of the
    store to look among, besides `cells`. Nothing is read where no cell is an attack.
    """
    requested: dict[str, list[str]] = {}
    for one in cells:
        if _in_a_ball(one.question) and (known := reader.description(one.question.cell)):
            requested.setdefault(without_scenario(known), []).append(one.question.cell)
    if not requested:
        return []
    beside: dict[str, dict[str, Question]] = {}
    for question in (one.question for one in (*cells, *others)):
        if (_in_a_ball(question) or question.scenario in COLUMNS) and (known := reader.description(question.cell)):
            beside.setdefault(without_scenario(known), {}).setdefault(question.cell, question)
    return [Setting(list(dict.fromkeys(names)), _gathered(reader, beside[place])) for place, names in requested.items()]


def _in_a_ball(question: Question) -> bool:
    """Whether a cell is of an attack that others can be compared with: one that moves the whole image has no ball."""
    return question.kind == "attack" and not moves_images(question.scenario)


def _gathered(reader: RowReader, questions: Mapping[str, Question]) -> ModelAttacks:
    found = ModelAttacks()
    for cell in sorted(questions):
        rows, description = reader.kept(questions[cell]), reader.description(cell)
        if questions[cell].kind == "attack" and "pred" not in rows:
            continue  # crafted for other models, on one of other classes
        if len(rows) and questions[cell].kind == "attack":
            found.cells.append(attack_cell(cell, description, rows))
        elif len(rows) and description.get("precision") == "float32":  # in less a finite difference measures rounding
            found.surfaces[cell] = rows
    found.cells.sort(key=lambda one: [(step.name, step.eps) for step in one.steps])  # an order that no reading changes
    return found


def attack_cell(cell: str, description: Mapping[str, Any], rows: pd.DataFrame) -> AttackCell:
    """The outcome of an attack from the rows of its cell. description: its canonical question."""
    chain = [revive(node) for node in (*description.get("after", ()), *([description["scenario"]] if "scenario" in description else []))]
    kept = rows[rows["attacked"].to_numpy(dtype=bool)]
    fooled = (kept["pred"] != kept["label"]).to_numpy()
    by = kept["felled_by"].to_numpy() if len(chain) > 1 else None
    elsewhere = description.get("surrogate") is not None and crafting_id(description) != cell
    through = bool(description.get("attack_through")) or elsewhere  # its gradients are another model's
    steps = tuple(_step(spec, fooled if by is None else fooled & (by == spec.name), through) for spec in chain)
    values = 3 * math.prod(description["view"]["size"])
    same = json.dumps([*(canonical(spec.without("eps")) for spec in chain), *([description["surrogate"]] if elsewhere else [])])
    return AttackCell(cell, same, values, pd.Index(kept["sample"]), kept["label"].to_numpy(), steps)


def _step(spec: Spec, fooled: np.ndarray, through: bool = False) -> AttackStep:
    inner = _bounded(spec)
    eps, norm = inner.get("eps"), str(inner.get("norm") or "l2")  # DDN and CW have no parameter for their l2
    radius, ball = (math.inf, norm) if eps is None else (float(plain(eps)), f"{norm} {show(eps)}")
    role: Role = "other" if moves_images(inner.name) else "transfer" if through else _role(spec)
    return AttackStep(spec.name, role, norm, radius, ball, fooled)


def moves_images(attack: str) -> bool:
    """Whether an attack moves the image as a whole, and has no ball of a norm that another's could be compared with."""
    entry = registry.entries("attack").get(attack)
    return entry is not None and entry.family == "spatial"


def _bounded(spec: Spec) -> Spec:
    """The attack whose radius an attack keeps: its own, or that of the attack inside it."""
    return next((value for _, value in spec.params if isinstance(value, Spec) and value.kind == "attack"), spec)


def _role(spec: Spec) -> Role:
    """The role of an attack in the checks. One that follows gradients and has no number of steps takes one."""
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
