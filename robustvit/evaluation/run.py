"""Runs a Suite on models and data, and fills a Store. Killed at any moment, the same call goes on where it stopped."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from robustvit.errors import BadParameter, UsageError, nearest
from robustvit.evaluation import environment, plan, requested
from robustvit.evaluation.checks.backbone import other_backbones
from robustvit.evaluation.checks.former_cells import take_over
from robustvit.evaluation.checks.probe import probe_models
from robustvit.evaluation.checks.recheck import recheck
from robustvit.evaluation.command_line import command_line
from robustvit.evaluation.cost.spent import Work
from robustvit.evaluation.datasets import omissions
from robustvit.evaluation.executors import local
from robustvit.evaluation.images.kept_suite import named_suite
from robustvit.evaluation.manifest import manifest, undefined_cells
from robustvit.evaluation.outcome.progress import Progress, shown_or_default
from robustvit.evaluation.outcome.summary import Summary
from robustvit.evaluation.pipelines.requests import Model, given_models
from robustvit.evaluation.plan import Plan
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.tasks import Done, Failed, Outcome, Task, planned_of, tasks_of
from robustvit.evaluation.time_budget import Deadline
from robustvit.evaluation.worker import Worker
from robustvit.primitives.batch import Data
from robustvit.primitives.scenario import scenario_kind
from robustvit.records.store import Store
from robustvit.records.sweeping import sweep_cell, sweep_store
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.spec import canonical
from robustvit.spec.suite import Suite

log = logging.getLogger(__name__)


def run(
    suite: Suite | str | Path,
    models: Sequence[Model] = ("demo",),
    data: str | Data | None = None,
    *,
    store: Path | str | Store = "results",
    settings: Settings | None = None,
    progress: Progress | Literal[False] | None = None,
    command: str = "",
    **options: Any,
) -> Summary:
    """Computes every row of a suite that the store lacks.

    suite: a Suite, its name, a file, or `kept:STORE`. models: addresses, Classifiers, or any module from normalised images to logits, see
    Classifier for what is assumed of one. data: an address, a Data, or None for the suite's own. store: a directory, made when missing.
    progress: called as rows are done; default a bar, on a terminal and in a notebook; False for none. options: any field of Settings
    (device, batch_size, workers, precision, limit, seed, …). A cell whose scenario or model raises is recorded as failed in the store and
    in the summary, and the others go on. Once a `budget` is spent no further task is begun but the first, and the summary says so: the
    same call goes on from there. Raises UsageError, DataError, ModelError or StoreError before anything is computed, StoreError when the
    disk is full.
    """
    started = time.perf_counter()
    for name in options:
        if name not in Settings.__dataclass_fields__:
            known = list(Settings.__dataclass_fields__)
            raise BadParameter(f"run has no setting '{name}'.{nearest(name, known)} It takes {', '.join(known)}.")
    chosen = replace(settings or Settings(), **options)
    bound = suite if isinstance(suite, Suite) else named_suite(suite)
    deadline = Deadline(chosen.budget)
    environment.determine()
    environment.device(chosen.device)
    given = given_models(models)
    made = requested.make(bound, given, data, chosen)
    place = store if isinstance(store, Store) else Store(store, create=True)
    with shown_or_default(progress) as shown:
        summary = _Run(made, place, shown, command or command_line(bound, given, data, chosen, place), deadline).go()
    summary.seconds = time.perf_counter() - started
    return summary


class _Run:
    """One run: the manifest, the tasks that the store lacks, and the summary of their outcomes."""

    def __init__(self, made: Plan, store: Store, progress: Progress | None, command: str, deadline: Deadline) -> None:
        self.plan, self.store, self.progress, self.command, self.deadline = made, store, progress, command, deadline
        self.environment = store.write_environment(environment.describe_environment(torch.device(made.settings.device)))
        self.work = Work(made)
        self.worker = Worker(made, store, self.environment, self.show, self.work.spent)
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
        )

    def go(self) -> Summary:
        """Checks the models and the rows that are there, computes what is missing, and sums up."""
        sweep_store(self.store.path)
        for part in self.plan.planned:
            if part.model is not None and "assumed" in part.model.card.notes:
                _tell_once(f"{part.label}: {part.model.card.notes['assumed']}.")
        probe_models(self.plan, self.worker)
        self.summary.rows = self.plan.rows
        self.summary.ids = [cell.id for cell in self.plan.cells]
        self.summary.cells = len(self.summary.ids)
        self.summary.undefined = undefined_cells(self.plan)
        recheck(self.plan, self.store, self.worker)
        self.summary.model_notes = _model_notes(self.plan)
        self.note(started=_now())
        ready_first = sorted(self.plan.pairs, key=lambda pair: pair[1].surrogate is not None and pair[1].waits_for is not None)
        tasks = [task for part, cell in ready_first for task in self.missing(part, cell)]
        self.total = self.work.of(tasks)
        self.show("reading images" if tasks else "nothing to do")
        for samples, view in dict.fromkeys((planned_of(self.plan, task).samples, task.cell.view) for task in tasks):
            self.worker.samples.decode(samples, view)
        local.run_tasks(tasks, self.worker, self.record, self.out_of_time)
        self.work.teach()
        self.summary.repaired_digests = self.worker.samples.damaged_digests
        self.summary.undefined = undefined_cells(self.plan)
        self.summary.cells, self.summary.rows = len(self.plan.cells), self.plan.rows
        self.summary.complete = self.plan.complete(self.store)
        self.store.verified.save()
        if (self.summary.computed or self.plan.refused) and not self.summary.stopped:
            self.note(finished=_now())
        return self.summary

    def note(self, **times: str) -> None:
        """Writes the manifest, keeping when it was first started."""
        page = manifest(self.plan, self.command)
        earlier = next((old for old in self.store.manifests() if old.id == page.id), None)
        kept = {} if earlier is None else {key: known for key in ("started", "finished") if (known := getattr(earlier, key))}
        if times.keys() - kept.keys() or earlier is None or self.plan.settings.latency or self.plan.refused:
            self.store.write_manifest(replace(page, environment=self.environment, **{**times, **kept}))

    def missing(self, part: plan.PlannedCells, cell: Cell) -> list[Task]:
        """The tasks of a cell that the Store lacks. What is damaged is set aside first, and listed in the summary."""
        sweep_cell(self.store.path, cell.id)
        damaged = self.store.declare(cell.id, canonical(cell.as_dict()))
        damaged += self.store.set_aside(cell.id, images="adversarial" in self.plan.kept_of(cell))
        for path in damaged:
            log.warning("%s was damaged; what it held is made anew.", path)
        self.summary.repaired += damaged
        self.refuse_half_kept(cell)
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
