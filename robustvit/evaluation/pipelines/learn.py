"""What the transforms of a run learn of other samples: once for all cells, kept in the store, never of the images that are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.evaluation.cost.tile_limits import TileLimits
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.images.run_images import RunImages
from robustvit.evaluation.pipelines.fit import fit
from robustvit.evaluation.pipelines.nested import nested_of, view_of
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.pipelines import DIGESTS
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell

_WAIT = 0.2  # seconds between looks at what another process is learning
_OF_TRANSFORMS = (
    "Let it learn of others: the training split, or split one set, NAME={data}?part=calibration in the transform and --data "
    "{data}?part=evaluation."
)
_OF_FILES = "Evaluate it on others, such as --data {data}?part=evaluation where it was calibrated on part=calibration."


class Learner(Protocol):
    """Who learns: a worker, with its plan and store, and the tiles that fit into memory."""

    plan: Plan
    store: Store
    tiles: TileLimits
    samples: RunImages
    announce: Callable[[str], None]


def learn_pipeline(learner: Learner, part: PlannedCells, cell: Cell) -> None:
    """Puts what the transforms of a cell learn into the plan's `artifacts`: from the store, or learned now and kept there.

    One process learns under a lease, and others wait for it. Raises BadParameter where the images learned of are among those that the part
    is evaluated on; also those of a checkpoint whose transforms learned before it was saved.
    """
    assert part.model is not None
    for artifact in part.model.learned:
        refuse_overlap(learner, artifact, part, cell, f"'{part.label}', which was calibrated before it was saved,", _OF_FILES)
    for place in range(len(cell.transforms)):
        name = cell.learned_id(place)
        if name is not None:
            if name not in learner.plan.artifacts:
                learner.plan.artifacts[name] = as_tensors(_kept_or_learned(learner, part, cell, place, name))
            refuse_overlap(learner, learner.plan.artifacts[name], part, cell, f"'{cell.transforms[place].name}'", _advice(cell, place))


def refuse_overlap(learner: Learner, artifact: Mapping[str, Tensor], part: PlannedCells, cell: Cell, who: str, advice: str) -> None:
    """Raises BadParameter where images that an artifact was learned of are among those that a part is evaluated on.

    who: the subject of the message. advice: how it goes on, with {data} for the name of what is evaluated.
    """
    if DIGESTS not in artifact:
        return
    seen = {one.tobytes() for one in artifact[DIGESTS].numpy()}
    both = len(seen & {one.tobytes() for one in learner.samples.digests(part.samples, cell.view)})
    if both:
        data = part.samples.data.name.partition("?")[0]
        raise BadParameter(
            f"{who} learned of {both} images that '{part.label}' is then evaluated on, of {len(seen)} that it learned of: its numbers on "
            f"'{data}' would be of images that it knows. {advice.format(data=data)}"
        )


def _advice(cell: Cell, place: int) -> str:
    """How it goes on where a transform learned of what is evaluated, with {data} for the name of that."""
    params = registry.lookup("transform", cell.transforms[place].name).params
    return _OF_TRANSFORMS.replace("NAME", next(param.name for param in params if param.hint.plugin == "data"))


def _kept_or_learned(learner: Learner, part: PlannedCells, cell: Cell, place: int, name: str) -> dict[str, np.ndarray]:
    while True:
        with learner.store.lease(name, 0) as mine:
            kept = learner.store.artifact(name)
            if kept is None and mine:
                learner.announce(f"{part.label} · {cell.transforms[place].name} learns")
                kept = _fitting(learner, part, cell, place)
                learner.store.keep_artifact(name, kept)
        if kept is not None:
            return kept
        time.sleep(_WAIT)


def _fitting(learner: Learner, part: PlannedCells, cell: Cell, place: int) -> dict[str, np.ndarray]:
    """What a transform learns, with fewer rows in a forward pass where memory runs out."""
    nested = [nested_of(spec, learner.plan.plugins) for spec in cell.transforms[: place + 1]]
    models = [one for one in (part.model, *(value for own in nested for value in own.values())) if isinstance(one, Classifier)]
    return learner.tiles.fitting(lambda: _learned(learner.plan, part, cell, place), (part.label, cell.transforms), lambda: models)


def _learned(plan: Plan, part: PlannedCells, cell: Cell, place: int) -> dict[str, np.ndarray]:
    assert part.model is not None
    spec = cell.transforms[place]
    before = plan.host(part.model, replace(cell, transforms=cell.transforms[:place], view=part.model.view))
    nested = nested_of(spec, plan.plugins)
    data = next((one for one in nested.values() if isinstance(one, Data)), None)
    with before.in_float32():
        view = before.view if data is None else view_of(before, data)
        return fit(before, view, spec, cell.seed, nested, plan.settings.workers)
