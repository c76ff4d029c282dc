"""What the transforms of a run learn of other samples: once for all cells, kept in the store, never of the images that are judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from robustvit.errors import BadParameter
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.pipelines.fit import fit
from robustvit.evaluation.pipelines.nested import nested_of, view_of
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.primitives.batch import Data
from robustvit.primitives.surgery.pipelines import DIGESTS
from robustvit.records.store import Store
from robustvit.spec.cell import Cell
from robustvit.spec.view import View

_WAIT = 0.2  # seconds between looks at what another process is learning


class Learner(Protocol):
    """Who learns: a worker, with its plan and store."""

    plan: Plan
    store: Store
    announce: Callable[[str], None]

    def digests(self, part: PlannedCells, view: View) -> np.ndarray:
        """(n, 16) uint8: the digests of the images that a part is evaluated on."""
        ...


def learn_pipeline(learner: Learner, part: PlannedCells, cell: Cell) -> None:
    """Puts what the transforms of a cell learn into the plan's `artifacts`: from the store, or learned now and kept there.

    One process learns under a lease, and others wait for it. Raises BadParameter where the images learned of are among those that the part
    is evaluated on; also those of a checkpoint whose transforms learned before it was saved.
    """
    assert part.model is not None
    for artifact in (one for one in part.model.learned if DIGESTS in one):
        refuse_overlap(artifact[DIGESTS].numpy(), part.label, part, learner.digests(part, cell.view))
    for place in range(len(cell.transforms)):
        name = cell.learned_id(place)
        if name is None or name in learner.plan.artifacts:
            continue
        found = _kept_or_learned(learner, part, cell, place, name)
        if DIGESTS in found:
            refuse_overlap(found[DIGESTS], cell.transforms[place].name, part, learner.digests(part, cell.view))
        learner.plan.artifacts[name] = as_tensors(found)


def refuse_overlap(shown: np.ndarray, learner: str, part: PlannedCells, judged: np.ndarray) -> None:
    """Raises BadParameter where images that something learned of are among the judged ones. shown, judged: (n, 16) digests of their bytes.

    learner: the transform, or the model whose transforms learned before.
    """
    seen = {one.tobytes() for one in shown}
    both = len(seen & {one.tobytes() for one in judged})
    if both:
        data = part.samples.data.name.partition("?")[0]
        raise BadParameter(
            f"'{learner}' learns of {both} images that '{part.label}' is then evaluated on, of {len(seen)} that it learns of: its numbers "
            f"on '{data}' would be of images that it knows. Let it learn of others: the training split, or split one set, "
            f"calibration={data}?part=calibration in the transform and --data {data}?part=evaluation."
        )


def _kept_or_learned(learner: Learner, part: PlannedCells, cell: Cell, place: int, name: str) -> dict[str, np.ndarray]:
    while True:
        with learner.store.lease(name, 0) as mine:
            kept = learner.store.artifact(name)
            if kept is None and mine:
                learner.announce(f"{part.label} · {cell.transforms[place].name} learns")
                kept = _learned(learner.plan, part, cell, place)
                learner.store.keep_artifact(name, kept)
        if kept is not None:
            return kept
        time.sleep(_WAIT)


def _learned(plan: Plan, part: PlannedCells, cell: Cell, place: int) -> dict[str, np.ndarray]:
    assert part.model is not None
    spec = cell.transforms[place]
    before = plan.host(part.model, replace(cell, transforms=cell.transforms[:place], view=part.model.view))
    nested = nested_of(spec, plan.plugins)
    data = next((one for one in nested.values() if isinstance(one, Data)), None)
    with before.in_float32():
        view = part.model.view if data is None else view_of(part.model, data)
        return fit(before, view, spec, cell.seed, nested, plan.settings.workers)
