"""Rows of stores in which data was known by names and sizes alone: taken over where a tile of them, computed anew, is found equal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from robustvit.evaluation.checks.recheck import differing, tile_again
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.evaluation.worker import Worker
from robustvit.primitives.batch import Data
from robustvit.primitives.scenario import scenario_kind
from robustvit.records.adoption import adopt
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell, artifact_id
from robustvit.spec.spec import canonical, digest


def take_over(plan: Plan, part: PlannedCells, cell: Cell, store: Store, worker: Worker) -> bool:
    """Takes the rows of a cell's former id over, where there are any and none of its own. Returns whether it did.

    A tile of the rows is computed anew first; where a sample differs, nothing is taken over and the cell is computed as any other.
    """
    if store.files(cell.id):
        return False
    former = _former(canonical(cell.as_dict()), plan)
    if former is None or not store.files(digest(former)):
        return False
    store.set_aside(digest(former))
    if cell.after and not store.files(cell.earlier.id):
        return False
    artifact = cell.artifact_id
    if artifact is not None and store.artifact(artifact) is None and (fitted := store.artifact(artifact_id(former))) is not None:
        store.keep_artifact(artifact, fitted)
    kind = scenario_kind(registry.scenario_entry(cell.scenario.name))
    keep, files = plan.settings.keep, store.files(digest(former))
    if "adversarial" in keep and kind.makes_adversarial_images and any("images" not in file.about() for file in files):
        return False
    if "logits" in keep and kind.predicts and any("logits" not in file.columns() for file in files):
        return False
    again = tile_again(plan, part, cell, store, worker, of=digest(former))
    if again is None or set(again.now) - set(again.held) - {"logits"} or differing(*again, plan.settings.precision):
        return False
    adopt(store, digest(former), cell.id)
    return True


def _former(question: Any, plan: Plan) -> Any | None:
    """The canonical question with the fingerprints that data had when it was known by names and sizes; None where none of its data was."""
    text = json.dumps(question)
    former = text
    for data in _data_of(plan):
        if earlier := str(getattr(data, "former_fingerprint", "")):
            former = former.replace(f'"{data.fingerprint}"', f'"{earlier}"')
    return None if former == text else json.loads(former)


def _data_of(plan: Plan) -> Iterator[Data]:
    yield from (samples.data for samples in plan.samples)
    yield from (plugin for plugin in plan.plugins.values() if isinstance(plugin, Data))
