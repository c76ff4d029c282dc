"""A worker: a Task in, Done, Busy or Failed out. What it computes is in the Store before it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd

from robustvit.errors import BadParameter, DataError, HostRefused, RobustvitError, StoreError, UsageError
from robustvit.evaluation import plan as plans
from robustvit.evaluation.cost.tile_limits import TileLimits
from robustvit.evaluation.evaluate import EvaluatedCell, as_tensors, evaluate
from robustvit.evaluation.failed_cells import FailedCells
from robustvit.evaluation.gallery import gallery, gallery_rows
from robustvit.evaluation.images.kept_images import KeptImages
from robustvit.evaluation.images.run_images import RunImages
from robustvit.evaluation.manifest import title
from robustvit.evaluation.pipelines.fit import fit
from robustvit.evaluation.pipelines.learn import learn_pipeline, refuse_overlap
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.evaluation.scenario_of_cell import in_forward_mode
from robustvit.evaluation.tasks import CELL_FAULTS, Busy, Done, Failed, Outcome, Task, planned_of, rows_with_groups
from robustvit.primitives.classifier import Classifier
from robustvit.records import records
from robustvit.records.store import Store
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import SHARD
from robustvit.version import __version__

_OF_ATTACKS = "Fit it to others: the training split, or evaluate one part, such as --data {data}?part=5/5, and fit to evaluated?part=1-4/5."
T = TypeVar("T")


class Worker:
    """Computes tasks of a plan into a store, one at a time.

    environment: the id of this machine's description in the store. announce: called with what is being computed; spent: with a task, the
    model that computed its rows, how many they are and the seconds that they took. since: for one of several workers, when their run began
    by the store's clock: a cell that failed later is not tried again. One pipeline of one model is kept in memory between tasks, and what
    was decoded for each data set and view.
    """

    def __init__(
        self, plan: Plan, store: Store, environment: str, announce: Callable[[str], None] = lambda what: None,
        spent: Callable[[Task, Classifier, int, float], None] = lambda *what: None, since: float | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.store, self.environment, self.announce, self.spent = plan, store, environment, announce, spent
        self.shared = since is not None
        self.samples = RunImages(store, plan.settings.workers, announce)
        self.tiles = TileLimits()
        self._model: tuple[tuple[Any, ...], Classifier] | None = None
        self.failed = FailedCells(store, since)
        self._checked: set[Cell] = set()
        self._kept: tuple[tuple[str, int], KeptImages] | None = None

    def do(self, task: Task) -> Outcome:
        """Computes a task under its lease. A scenario or model that raises fails its cell; faults of the store or the data are raised."""
        before = task.cell.waits_for
        for cell in filter(None, (task.cell, before)):
            self.store.update("cells", cell.id)
        if (failed := self.failed.of(task.cell.id)) is not None:
            return failed
        if task.cell in self.plan.refused:
            return Done()
        if before is not None and (refusal := self.plan.refused.get(before)):
            self.plan.refused[task.cell] = refusal
            return Done()
        if before is not None and self.store.reached(before.id, task.shard) < task.stop:
            return self._await(before, task)
        if self.shared and task.begin < task.stop <= self.store.reached(task.cell.id, task.shard):
            return Done()  # another worker did it
        blocked = self._fit(task) or self._refuse_known(task)
        if blocked is not None:
            return blocked
        with self.store.lease(task.cell.id, task.shard) as mine:
            if not mine:
                return Busy()
            self.store.update("cells", task.cell.id)
            begin = self.store.reached(task.cell.id, task.shard)
            return self._compute(task, begin) if begin < task.stop else Done()

    def _await(self, before: Cell, task: Task) -> Outcome:
        """Failed where the cell whose rows a task needs failed, else Busy: it is still to come."""
        reason = self.store.failure(before.id)
        what = "the attack before it" if task.cell.after else "the attack on its surrogate"
        return Busy() if reason is None else self._fail(task, RobustvitError(f"{what} failed: {reason}"))

    def _fit(self, task: Task) -> Outcome | None:
        """None where the artifact that the task's scenario needs is in the store, fitted now if need be; else Busy or Failed."""
        artifact = task.cell.artifact_id
        if artifact is None or self.store.artifact(artifact) is not None:
            return None
        with self.store.lease(artifact, 0) as mine:
            if not mine:
                return Busy()
            self.store.update("learned")
            if self.store.artifact(artifact) is not None:
                return None
            cell, workers = task.cell, self.plan.settings.workers
            self.announce(f"{task.model} · fitting {self.title(task)}")
            plugins = plans.plugins_of(cell, self.plan)
            predicted = bool(cell.surrogate and cell.surrogate.labels)
            try:
                host = self.host(task)
                made = self._attempt(lambda: fit(host, cell.view, cell.scenario, cell.seed, plugins, workers, predicted=predicted), task)
            except HostRefused as error:
                return self._refused(task, error)
            if isinstance(made, Failed):
                return made
            self.store.keep_artifact(artifact, made)
        return None

    def _refuse_known(self, task: Task) -> Failed | None:
        """Failed where an attack that crafts images for others was fitted to images that these are then evaluated on."""
        cell, part = task.cell, planned_of(self.plan, task)
        artifact = self.store.artifact(cell.artifact_id) if cell.crafts and cell.artifact_id is not None else None
        if artifact is None or cell in self._checked:
            return None
        try:
            refuse_overlap(self, as_tensors(artifact), part, cell, f"attack '{cell.scenario.name}'", _OF_ATTACKS)
        except BadParameter as error:
            return self._fail(task, error)
        self._checked.add(cell)
        return None

    def _attempt(self, work: Callable[[], T], task: Task) -> T | Failed:
        """The result of the work, with smaller tiles where memory runs out; where it raises, the cell has failed."""
        try:
            return self.tiles.fitting(work, (task.model, task.cell.transforms), lambda: self._models(task))
        except (StoreError, DataError, HostRefused):
            raise
        except CELL_FAULTS as error:
            return self._fail(task, error)

    def _models(self, task: Task) -> list[Classifier]:
        """The models that a task computes with, as far as they are made: with its transforms, without, and those of its scenario."""
        made = None if self._model is None else self._model[1]
        found = [made, planned_of(self.plan, task).model, *plans.plugins_of(task.cell, self.plan).values()]
        return [one for one in found if isinstance(one, Classifier)]

    def _compute(self, task: Task, begin: int) -> Outcome:
        self.announce(f"{task.model} · {self.title(task)}")
        began = time.perf_counter()
        try:
            found = self._attempt(lambda: self.evaluate(task, begin), task)
        except HostRefused as error:
            return self._refused(task, error)
        if isinstance(found, Failed):
            return found
        host, seconds = self.host(task), time.perf_counter() - began
        self.spent(task, host, found.rows.num_rows, seconds)
        about = {
            "seconds": round(seconds, 6), "environment": self.environment, "version": __version__, "tile": host.tile,
            "device": str(host.device),
        }  # fmt: skip
        if host.forward_mode.name and in_forward_mode(task.cell):
            about["forward"] = host.forward_mode.name
        if found.adversarial is not None:  # before its rows, which name the file's checksum
            earlier = task.cell.earlier.id if task.cell.after else ""
            notes = {"cell": task.cell.id, "earlier": earlier}
            about["images"] = self.store.keep_images(task.cell.id, task.shard, begin, found.adversarial, task.stop, notes)
        if len(found.seen):  # before the rows, too: once these are there nobody makes it again
            self.store.write_gallery(task.cell.id, gallery(found))
        self.store.write(task.cell.id, task.shard, begin, found.rows, about)
        self.store.succeed(task.cell.id)
        return Done(found.rows.num_rows)

    def evaluate(self, task: Task, begin: int) -> EvaluatedCell:
        """Evaluates the rows of a task from `begin` on; nothing is written but the digests of its images."""
        samples, cell = planned_of(self.plan, task).samples, task.cell
        start, stop = task.shard * SHARD + begin, task.shard * SHARD + task.stop
        rows = rows_with_groups(cell, samples, start, stop)
        first = start == 0
        found = evaluate(
            cell, self.host(task), samples.data, self.samples.images(samples, cell.view, rows), samples.positions[rows], rank=int(rows[0]),
            plugins=plans.plugins_of(cell, self.plan), keep=self.plan.kept_of(cell), show=gallery_rows(samples, task.stop) if first else (),
            earlier=self._earlier(task, begin), artifact=None if cell.artifact_id is None else self.store.artifact(cell.artifact_id),
            through=self._before_transforms(task) if cell.attack_through else None, crafted=self._crafted(cell),
        )  # fmt: skip
        return found if len(rows) == stop - start else found._replace(rows=found.rows.slice(start - int(rows[0]), stop - start))

    def _crafted(self, cell: Cell) -> KeptImages | None:
        """The images that were crafted for a cell on its surrogate."""
        source = None if cell.surrogate is None or cell.crafts else cell.crafting
        if source is None:
            return None
        key = (source.id, len(self.store.files(source.id)))  # more may be crafted while others are judged
        if self._kept is None or self._kept[0] != key:
            self._kept = key, KeptImages(self.store, str(source), source.id, source.scenario)
        return self._kept[1]

    def _before_transforms(self, task: Task) -> Classifier:
        part = planned_of(self.plan, task)
        assert part.model is not None
        return self.plan.host(part.model, replace(task.cell, transforms=()))

    def _earlier(self, task: Task, begin: int) -> pd.DataFrame | None:
        """The Records that the attacks before a task's left of its samples."""
        if not task.cell.after:
            return None
        files = [file for file in self.store.files(task.cell.earlier.id) if file.shard == task.shard]
        return records.read(files).iloc[begin : task.stop].reset_index(drop=True)

    def host(self, task: Task) -> Classifier:
        """The task's model with its transforms."""
        part = planned_of(self.plan, task)
        key = (task.model, task.cell.transforms, task.cell.seed, task.cell.view if task.cell.view.shown else None)
        if self._model is None or self._model[0] != key:
            self._model = None  # free the last one first
            assert part.model is not None
            learn_pipeline(self, part, task.cell)
            self.tiles.apply((), part.model)  # whole, and so are those of what is made of it
            self._model = key, self.plan.host(part.model, task.cell)
            self.tiles.apply(key[:2], self._model[1], part.model)
        return self._model[1]

    def try_host(self, part: PlannedCells, cell: Cell) -> Classifier | None:
        """The model of a cell with its transforms. None where one of these refuses it or fails to learn, which the plan or the store notes.

        Raises StoreError and DataError, and BadParameter where a transform learns of the images that are judged.
        """
        task = Task(part.label, part.samples.data.fingerprint, cell, 0, 0, 0)
        if not cell.learns:
            return self.host(task)
        try:
            return self.host(task)
        except HostRefused as error:
            self.plan.undefined[part.label, cell.transforms] = str(error)
        except (StoreError, DataError, UsageError):
            raise
        except CELL_FAULTS as error:
            for other in self.plan.defined(part):
                if (other.transforms, other.seed) == (cell.transforms, cell.seed):
                    self._fail(replace(task, cell=other), error)
        return None

    def title(self, task: Task) -> str:
        """A task's cell as tables call it."""
        return title(task.cell, planned_of(self.plan, task), self.plan)

    def _refused(self, task: Task, error: HostRefused) -> Outcome:
        """Done: a scenario that does not take the model is no fault, and the cell has no value."""
        self.plan.refused[task.cell] = str(error)
        return Done()

    def _fail(self, task: Task, error: BaseException) -> Failed:
        return self.failed.note(task, self.title(task), error)
