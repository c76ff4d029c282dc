"""Tasks of a run and their outcomes: plain values, which another process or machine can be handed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robustvit.errors import HostRefused, RobustvitError
from robustvit.evaluation.datasets import Samples
from robustvit.evaluation.plan import Plan, PlannedCells, shards
from robustvit.primitives.scenario import group_size, scenario_kind
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell

CELL_FAULTS = (RobustvitError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What a scenario or a model may raise; it fails a cell, and the others go on."""


@dataclass(frozen=True)
class Task:
    """Rows [begin, stop) of one shard of one cell.

    model: its label; data: the fingerprint of its data. A worker begins where the Store ends.
    """

    model: str
    data: str
    cell: Cell
    shard: int
    begin: int
    stop: int


@dataclass(frozen=True)
class Done:
    """The rows of a task are in the Store; `computed` of them were made by this worker."""

    computed: int = 0


@dataclass(frozen=True)
class Busy:
    """Another process holds the lease, or the attack before this one is still to come: try again later."""


@dataclass(frozen=True)
class Failed:
    """The cell failed, and with it all its tasks: the reason is in the Store, too."""

    reason: str


Outcome = Done | Busy | Failed

FAILURE_MESSAGE = "%s on %s failed: %s"
"""What is logged of a cell that fails: its title, its model, and the reason."""


def tasks_of(part: PlannedCells, cell: Cell, store: Store) -> list[Task]:
    """The tasks of a cell that the Store lacks, in order; one without rows where only its damaged artifact has to be fitted anew."""
    tasks = [task for shard, wanted in shards(part.samples.asked) for task in _of_shard(part, cell, shard, wanted, store)]
    if not tasks and cell.artifact_id is not None and store.lacks_artifact(cell.artifact_id):
        return [Task(part.label, part.samples.data.fingerprint, cell, 0, 0, 0)]
    return tasks


def _of_shard(part: PlannedCells, cell: Cell, shard: int, wanted: int, store: Store) -> Iterator[Task]:
    assert part.model is not None
    rows = scenario_kind(registry.scenario_entry(cell.scenario.name)).rows_per_task(part.model.tile, cell.view.size)
    for begin in range(store.reached(cell.id, shard), wanted, rows):
        yield Task(part.label, part.samples.data.fingerprint, cell, shard, begin, min(begin + rows, wanted))


def rows_with_groups(cell: Cell, samples: Samples, start: int, stop: int) -> np.ndarray:
    """The ranks of samples from `start` up to `stop`, and of all others of the groups that the cell's scenario measures together.

    Raises HostRefused where the data has fewer samples than a group.
    """
    size, count = group_size(registry.scenario_entry(cell.scenario.name), cell.scenario), len(samples.positions)
    if size > count:
        raise HostRefused(f"'{cell.scenario}' measures groups of {size} samples, and data '{samples.label}' has {count}.")
    return np.arange(start // size * size, min(-(-stop // size) * size, count))


def planned_of(plan: Plan, task: Task) -> PlannedCells:
    """The part of a plan that a task is of. Raises LookupError for a task of another plan."""
    for part in plan.planned:
        if (part.label, part.samples.data.fingerprint) == (task.model, task.data):
            return part
    raise LookupError(f"the plan of suite '{plan.suite.name}' has no model '{task.model}' on data {task.data}.")
