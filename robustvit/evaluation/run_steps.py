"""The steps of a run: checks, the tasks that the Store lacks, their computing, the manifest and the summary."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from robustvit.errors import UsageError
from robustvit.evaluation import environment
from robustvit.evaluation.checks.backbone import other_backbones
from robustvit.evaluation.checks.former_cells import take_over
from robustvit.evaluation.checks.probe import probe_models
from robustvit.evaluation.checks.recheck import recheck
from robustvit.evaluation.cost.fastest_forward import set_forward_modes
from robustvit.evaluation.cost.spent import Work
from robustvit.evaluation.datasets import omissions
from robustvit.evaluation.executors import local
from robustvit.evaluation.executors.shares import Share, ShareOutcome
from robustvit.evaluation.manifest import manifest, undefined_cells
from robustvit.evaluation.outcome.progress import Progress
from robustvit.evaluation.outcome.summary import Summary
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.evaluation.tasks import Done, Failed, Outcome, Task, planned_of, tasks_of
from robustvit.evaluation.time_budget import Deadline
from robustvit.evaluation.worker import Worker
from robustvit.primitives.scenario import scenario_kind
from robustvit.records.damage import ImagesRequired
from robustvit.records.status.heartbeat import Heartbeat
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.spec import canonical

log = logging.getLogger(__name__)


class RunSteps:
    """One run, or one worker's share of it: the manifest, the tasks that the store lacks, and the summary of their outcomes.

    share: which of several workers this is; one that does not lead leaves the manifest and what is checked once to the one that does.
    """

    def __init__(
        self, made: Plan, store: Store, progress: Progress | None, command: str, deadline: Deadline, share: Share | None = None
    ) -> None:
        self.plan, self.store, self.progress, self.command, self.deadline = made, store, progress, command, deadline
        self.share = share or Share()
        self.environment = store.write_environment(environment.describe_environment(torch.device(made.settings.device)))
        self.work = Work(made)
        self.heartbeat = Heartbeat(store.path, str(made.settings.device))
        told, counted = self.heartbeat.telling(self.show), self.heartbeat.counting(self.work.spent)
        self.worker = Worker(made, store, self.environment, told, counted, self.share.since)
        self.total = self.done = 0.0
        self.begun = False
        self.summary = Summary(
            store.path,
            made.suite.name,
            len(made.cells),
            made.rows,
            incomplete=made.incomplete,
            skipped=made.skipped_told,
            left_out=omissions(made.samples),
            rank=self.share.index,
        )

    def prepare(self) -> list[Task]:
        """Checks the models and the rows that are there; returns the tasks that the store lacks, in the order to compute them."""
        if self.share.leads:
            sweep_store(self.store.path)
            self._tell_assumed()
        probe_models(self.plan, self.worker)
        self.summary.rows = self.plan.rows
        self.summary.ids = [cell.id for cell in self.plan.cells]
        self.summary.cells = len(self.summary.ids)
        self.summary.undefined = undefined_cells(self.plan)
        self.summary.model_notes = _model_notes(self.plan)
        if self.share.leads:
            recheck(self.plan, self.store, self.worker)
            self.note(started=_now())
        ready_first = sorted(self.plan.pairs, key=lambda pair: pair[1].surrogate is not None and pair[1].waits_for is not None)
        required = self.plan.required_images(self.store) if self.share.leads else {}
        lacking = [task for part, cell in ready_first for task in self.missing(part, cell, required.get(cell.id, ImagesRequired.NO))]
        tasks = self.share.order(lacking, lambda task: self.work.of([task]))
        if tasks and self.plan.settings.batch_size == environment.AUTO:
            set_forward_modes(self.plan, self.worker, tasks)
        self.total = self.work.of(tasks)
        self.show("reading images" if tasks else "nothing to do")
        return tasks

    def compute(self, tasks: Sequence[Task]) -> None:
        """Computes tasks in this process."""
        for samples, view in dict.fromkeys((planned_of(self.plan, task).samples, task.cell.view) for task in tasks):
            self.worker.samples.decode(samples, view)
        with self.heartbeat:
            local.run_tasks(tasks, self.worker, self.record, self.out_of_time)
        self.work.teach()
        self.summary.repaired_digests = self.worker.samples.damaged_digests

    def take(self, outcomes: Sequence[ShareOutcome]) -> None:
        """Adds what workers did to what this process knows of the run."""
        for one in outcomes:
            self.plan.refused |= {cell: one.refused[cell.id] for cell in self.plan.cells if cell.id in one.refused}
            self.summary.failed |= one.failed
            self.summary.computed += one.computed
            self.summary.stopped = self.summary.stopped or one.stopped
            self.summary.repaired_digests += one.repaired_digests

    def outcome(self) -> ShareOutcome:
        """What this worker did, for the process that started it."""
        refused = {cell.id: why for cell, why in self.plan.refused.items()}
        done = self.summary
        return ShareOutcome(done.computed, dict(done.failed), refused, done.stopped, list(done.repaired_digests))

    def left(self, tasks: Sequence[Task]) -> list[Task]:
        """Those of the tasks whose rows are not in the store, though their cells have neither failed nor turned out to have no value."""
        self.store.update()
        over = self.summary.failed.keys() | {cell.id for cell in self.plan.refused}
        reached: dict[tuple[str, int], int] = {}
        for one in tasks:
            if (one.cell.id, one.shard) not in reached:
                reached[one.cell.id, one.shard] = self.store.reached(one.cell.id, one.shard)
        return [one for one in tasks if one.cell.id not in over and reached[one.cell.id, one.shard] < one.stop]

    def finish(self) -> Summary:
        """Sums up."""
        self.summary.undefined = undefined_cells(self.plan)
        self.summary.cells, self.summary.rows = len(self.plan.cells), self.plan.rows
        self.summary.complete = self.plan.complete(self.store)
        self.store.verified.save()
        whole = self.summary.complete == sum(len(self.plan.defined(part)) for part in self.plan.planned)  # whoever computed it
        if self.share.leads and (whole or ((self.summary.computed or self.plan.refused) and not self.summary.stopped)):
            self.note(finished=_now())
        return self.summary

    def _tell_assumed(self) -> None:
        for part in self.plan.planned:
            if part.model is not None and "assumed" in part.model.card.notes:
                _tell_once(f"{part.label}: {part.model.card.notes['assumed']}.")

    def note(self, **times: str) -> None:
        """Writes the manifest, keeping when it was first started."""
        page = manifest(self.plan, self.command)
        earlier = next((old for old in self.store.manifests() if old.id == page.id), None)
        kept = {} if earlier is None else {key: known for key in ("started", "finished") if (known := getattr(earlier, key))}
        if times.keys() - kept.keys() or earlier is None or self.plan.settings.latency or self.plan.refused:
            self.store.write_manifest(replace(page, environment=self.environment, **{**times, **kept}))

    def missing(self, part: PlannedCells, cell: Cell, images: ImagesRequired) -> list[Task]:
        """The tasks of a cell that the Store lacks. What is damaged is set aside first, and listed in the summary."""
        damaged = self.store.declare(cell.id, canonical(cell.as_dict()))
        if self.share.leads:
            sweep_cell(self.store.path, cell.id)
            damaged += self.store.set_aside(cell.id, images)
        for path in damaged:
            log.warning("%s was damaged; what it held is made anew.", path)
        self.summary.repaired += damaged
        self.refuse_half_kept(cell)
        if self.share.leads:
            self.summary.taken_over += take_over(self.plan, part, cell, self.store, self.worker)
        return tasks_of(part, cell, self.store)

    def refuse_half_kept(self, cell: Cell) -> None:
        """Raises UsageError where rows were computed without what is now to be kept of them: they would not be computed again."""
        keep = self.plan.kept_of(cell)
        if not keep:
            return
        files = self.store.files(cell.id)
        kind = scenario_kind(registry.scenario_entry(cell.scenario.name))
        lacking = {
            "logits": "logits" in keep and kind.predicts and any("logits" not in file.columns() for file in files),
            "images": "adversarial" in keep and kind.makes_adversarial_images and any("images" not in file.about() for file in files),
        }
        for what in (name for name, lacks in lacking.items() if lacks):
            option = "adversarial" if what == "images" else what
            raise UsageError(
                f"--keep {option}: rows of '{cell}' are in {self.store.path} without their {what}. Give a new place with --store."
            )

    def record(self, task: Task, outcome: Outcome) -> None:
        """Counts a task that is over."""
        self.done += self.work.of([task])
        if isinstance(outcome, Failed):
            self.summary.failed[task.cell.id] = outcome.reason
            return
        self.summary.computed += outcome.computed if isinstance(outcome, Done) else 0
        self.show(f"{task.model} · {self.worker.title(task)}")

    def out_of_time(self, task: Task) -> bool:
        """Whether the time is spent, so that this task may not be begun.

        The first is begun whatever the time, so that runs with too little of it come to an end all the same.
        """
        if task.cell.id in self.summary.failed:
            return False
        spent = self.deadline.passed and self.begun
        self.summary.stopped = self.summary.stopped or spent
        self.begun = True
        return spent

    def show(self, what: str) -> None:
        """Shows what is being computed, and how much of the run is done."""
        if self.progress is not None:
            self.progress(round(self.done), max(1, round(self.total)), what)


@functools.cache
def _tell_once(text: str) -> None:
    """Logs what a user must know, once in a process: whoever scores a model many times reads it once."""
    log.warning("%s", text)


def _model_notes(plan: Plan) -> dict[str, list[str]]:
    """What a reader of the numbers must know of a model, by label.

    Why its outputs are no logits, which weights were taken where a checkpoint holds several, what was assumed of its images, and where it
    is attacked through a backbone that it was not made from.
    """
    found: dict[str, list[str]] = {}
    for part in plan.planned:
        if part.model is None or part.label in found:
            continue
        outputs = plan.outputs[part.label].reason if part.label in plan.outputs else ""
        notes = [f"{outputs}; scores that need logits have no value"] * bool(outputs)
        notes += [str(part.model.card.notes[name]) for name in ("weights", "assumed") if part.model.card.notes.get(name)]
        notes += other_backbones(plan, part)
        found |= {part.label: notes} if notes else {}
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
