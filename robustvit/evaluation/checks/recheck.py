"""One tile of rows that a store holds, evaluated again: whether the model still gives them.

A model's identity is its weights and what its loader knows of its code. A module edited in a notebook has the same weights; so has one
whose file is read by no loader. Before rows are added to those of such a model, or shown as its own, a few of them are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import DataError, ModelError, StoreDamaged, StoreError, few
from robustvit.evaluation import plan as plans
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.evaluation.tasks import CELL_FAULTS, Task
from robustvit.evaluation.worker import Worker
from robustvit.primitives.scenario import scenario, scenario_kind
from robustvit.records import records
from robustvit.records.parquet import frame_of
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell

_CLOSE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-2}  # how far values may differ on another machine, relative and absolute
_FORWARDS = 1024  # forward passes that a tile may take; of a scenario that takes more of them for a sample, fewer rows are computed
_RANKED = frozenset({"pred", "rank", "top5", "vote"})  # columns in which rounding may swap two classes


def recheck(plan: Plan, store: Store, worker: Worker) -> None:
    """Evaluates one tile of the cheapest complete cell of each model and pipeline of transforms again, or fewer rows where they are costly.

    Nothing where a single row takes more than `_FORWARDS` passes, as of a certificate by ten thousand votes. Raises ModelError, naming the
    samples, where the model gives other rows than the store holds.
    """
    for part, cell in _cheapest(plan, store):
        again = tile_again(plan, part, cell, store, worker) if _passes(plan, part, cell) <= _FORWARDS else None
        if again is not None and (other := differing(*again, plan.settings.precision)):
            raise ModelError(
                f"model '{part.label}' gives other rows than those that the store {store.path} holds of it: {len(other)} of "
                f"{len(again[0])} samples of '{cell}' ({few(other)}). Its code, or that of the scenario, has changed since; its weights "
                "have not. Give the changed model's rows a new place with --store."
            )


class Tile(NamedTuple):
    """Rows of a cell as a store holds them, the same evaluated now, and whether an equal machine made them as this one does now."""

    held: pd.DataFrame
    now: pd.DataFrame
    same_machine: bool


def tile_again(plan: Plan, part: PlannedCells, cell: Cell, store: Store, worker: Worker, of: str = "") -> Tile | None:
    """The last rows that a store holds of a cell's first shard, evaluated again: a tile, or fewer where they are costly.

    of: the id of the cell whose rows are taken, where it is another. None where the store holds no such rows, or they cannot be computed.
    """
    assert part.model is not None
    files = [file for file in store.files(of or cell.id) if file.shard == 0]
    reached = min(records.rows(files), part.samples.asked)
    rows = max(1, min(part.model.tile, int(_FORWARDS // _passes(plan, part, cell))))
    begin = max(0, reached - rows)
    if reached == 0:
        return None
    try:
        columns = [name for name in files[0].columns() if name != "logits"]
        held = records.read(files, columns).iloc[begin:reached].reset_index(drop=True)
        notes = [file.about() for file in files]
        same_machine = all(one.get("environment") == worker.environment and not one.get("forward") for one in notes)
    except StoreDamaged:  # the run sets it aside and computes it anew
        return None
    try:
        now = frame_of(worker.evaluate(Task(part.label, part.samples.data.fingerprint, cell, 0, begin, reached), begin).rows)
    except (StoreError, DataError):
        raise
    except CELL_FAULTS:  # computing the rows of this cell tells what is wrong with it
        return None
    return Tile(held, now, same_machine)


def differing(held: pd.DataFrame, now: pd.DataFrame, same_machine: bool, precision: str) -> list[str]:
    """The ids of samples whose rows differ beyond rounding. Columns that only one side has are not compared."""
    if held["sample"].tolist() != now["sample"].tolist():
        return [str(name) for name in held["sample"]]
    close = _CLOSE[precision]
    shared = [name for name in held if name in now]
    if not same_machine and {"attacked", "votes"} & set(held):  # rounding changes where an attack goes, and single votes
        shared = [name for name in ("label", "attacked") if name in held]
    tied = np.zeros(len(held), dtype=bool)
    if "margin" in shared:
        tied = np.abs(held["margin"].to_numpy(float)) <= close * (1.0 + np.abs(held["margin"].to_numpy(float)).max())
    wrong = np.zeros(len(held), dtype=bool)
    for name in shared:
        apart = _apart(held[name], now[name], close)
        wrong |= apart & ~tied if name in _RANKED else apart
    return [str(name) for name in held["sample"][wrong]]


def _apart(held: pd.Series, now: pd.Series, close: float) -> np.ndarray:
    if held.dtype.kind == "f" and now.dtype.kind in "fiu":
        near: np.ndarray = np.isclose(held.to_numpy(float), now.to_numpy(float), rtol=close, atol=close, equal_nan=True)
        return ~near
    pairs = zip(held.tolist(), now.tolist(), strict=True)
    return np.array([not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs], dtype=bool)


def _cheapest(plan: Plan, store: Store) -> Iterator[tuple[PlannedCells, Cell]]:
    """The complete cell that takes the fewest passes, of each model and pipeline of transforms."""
    found: dict[tuple[Any, ...], tuple[float, int, PlannedCells, Cell]] = {}
    for place, (part, cell) in enumerate(plan.pairs):
        key = (part.label, cell.transforms)
        if cell.after or "/" in cell.scenario.name or records.rows(store.files(cell.id)) < part.samples.asked:
            continue  # a chain's next attack needs its survivors; another library's rows depend on their batch
        new = (_passes(plan, part, cell), place, part, cell)
        found[key] = min(found.get(key, new), new, key=lambda one: one[:2])
    yield from ((part, cell) for _, _, part, cell in found.values())


def _passes(plan: Plan, part: PlannedCells, cell: Cell) -> float:
    entry = registry.scenario_entry(cell.scenario.name)
    if scenario_kind(entry).predicts and not scenario_kind(entry).makes_adversarial_images:
        return 1.0 + (cell.scenario.name != "clean")
    assert part.model is not None
    passes = scenario(entry, cell.scenario, plans.plugins_of(cell, plan)).passes(part.model)
    return float("inf") if passes is None else float(passes.forwards)
