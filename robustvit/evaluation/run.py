"""A Suite, models and data in; a fuller Store out. Killed at any moment, the same call goes on where it stopped."""

from __future__ import annotations

import functools
import io
import logging
import shlex
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image

from robustvit.errors import DataError, RobustvitError, StoreError, UsageError
from robustvit.evaluation import environment, plan
from robustvit.evaluation.evaluate import Answers, evaluate, rows_at_once
from robustvit.evaluation.executors import local
from robustvit.evaluation.fit import fit
from robustvit.evaluation.image_cache import ImageCache
from robustvit.evaluation.kept_images import named_suite
from robustvit.evaluation.manifest import manifest, title
from robustvit.evaluation.plan import Ask, Plan, Settings
from robustvit.evaluation.time_budget import Deadline
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.records import records
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import SHARD, starts
from robustvit.spec.spec import Spec, canonical
from robustvit.spec.suite import Suite
from robustvit.spec.view import View
from robustvit.version import __version__

log = logging.getLogger(__name__)
T = TypeVar("T")

_FRAMES_APART = 10  # of the frames of a clip that are kept
_KEPT_WORDS = {"logits": "logits", "adversarial": "images"}
_SHOWN = 4  # samples kept of each cell as the model saw them
_CELL_FAULTS = (RobustvitError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Progress(Protocol):
    """Called as a run goes on: rows done and wanted in all, and what is being computed."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Takes note."""
        ...


@dataclass
class Summary:
    """What a run came to.

    computed: rows made by this call; failed: reasons by cell id; incomplete: which data lacks pictures; seconds: wall clock; complete: cells
    that have all their rows; stopped: whether the time was spent before the work was done.
    """

    store: Path
    suite: str
    cells: int
    rows: int
    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    repaired: list[Path] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    seconds: float = 0.0
    complete: int = 0
    stopped: bool = False


class Task(NamedTuple):
    """Rows of one shard of one cell that the Store lacks: those up to `wanted`. begin: where the task before it ends."""

    ask: Ask
    cell: Cell
    shard: int
    begin: int
    wanted: int


def run(
    suite: Suite | str | Path,
    models: Sequence[str | Spec | Classifier] = ("demo",),
    data: str | Data | None = None,
    *,
    store: Path | str | Store = "results",
    settings: Settings | None = None,
    progress: Progress | None = None,
    command: str = "",
    **options: Any,
) -> Summary:
    """Answers every question of a suite that the store does not answer yet.

    suite: a Suite, its name, a file, or `kept:STORE`. models: addresses or Classifiers. data: an address, a Data, or None for the suite's own. store: a
    directory, made when missing. options: any field of Settings (device, batch_size, workers, precision, limit, seed, …). A cell whose
    scenario or model fails is noted in the store and in the summary, and the others go on. Once a `budget` is spent no further shard of a cell
    is begun but the first, and the summary says so: the same call goes on from there. Raises UsageError, DataError, ModelError or
    StoreError before anything is computed, StoreError when the disk is full.
    """
    started = time.perf_counter()
    chosen = replace(settings or Settings(), **options)
    bound = suite if isinstance(suite, Suite) else named_suite(suite)
    deadline = Deadline(chosen.budget)
    environment.determine()
    environment.device(chosen.device)
    made = plan.make(bound, models, data, chosen)
    place = store if isinstance(store, Store) else Store(store, create=True)
    summary = _Run(made, place, progress, command or _command(bound, models, data, chosen, place), deadline).go()
    summary.seconds = time.perf_counter() - started
    return summary


def _command(suite: Suite, models: Sequence[str | Spec | Classifier], data: str | Data | None, chosen: Settings, store: Store) -> str:
    """The command line that asks the same."""
    words = ["robustvit", "run"]
    for model in models:
        words += ["--model", model.card.label if isinstance(model, Classifier) else str(model)]
    words += ["--suite", suite.name]
    if data is not None:
        words += ["--data", data if isinstance(data, str) else data.name]
    options = (
        ("--data-dir", chosen.data_dir), ("--limit", chosen.limit), ("--seed", chosen.seed), ("--img-size", chosen.view.img_size),
        ("--crop-pct", chosen.view.crop_pct), ("--interpolation", chosen.view.interpolation),
        ("--storage", None if chosen.storage is None else _words(chosen.storage)),
        ("--precision", None if chosen.precision == "float32" else chosen.precision), ("--batch-size", chosen.batch_size),
        ("--store", store.path),
    )  # fmt: skip
    for flag, value in options:
        if value is not None:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _words(storage: Spec) -> str:
    """A storage as the command line takes it."""
    return f"jpeg{storage.get('quality')}" if storage.name == "jpeg" else storage.name


class _Run:
    def __init__(self, made: Plan, store: Store, progress: Progress | None, command: str, deadline: Deadline) -> None:
        self.plan, self.store, self.progress, self.command, self.deadline = made, store, progress, command, deadline
        self.pictures: dict[tuple[str, View], ImageCache] = {}
        self.hosts: dict[tuple[Any, ...], Classifier] = {}
        self.total = made.rows
        self.done = 0
        self.tried = False
        self.summary = Summary(store.path, made.suite.name, len(made.cells), self.total, incomplete=made.incomplete)

    def go(self) -> Summary:
        self.environment = self.store.write_environment(environment.describe(torch.device(self.plan.settings.device)))
        self.note({"started": _now()})
        try:
            tasks = [task for ask in self.plan.asks for cell in ask.questions for task in self.missing(ask, cell)]
            self.tell("reading images" if tasks else "nothing to do")
            self.prepare(tasks)
            local.run(tasks, self.attempt)
        finally:
            self.hosts.clear()
        self.summary.complete = self.plan.complete(self.store)
        if self.summary.computed and not self.summary.stopped:
            self.note({"finished": _now()})
        return self.summary

    def note(self, about: dict[str, str]) -> None:
        """Writes the manifest, keeping when it was first started."""
        page = manifest(self.plan, self.command)
        earlier = next((old for old in self.store.manifests() if old.id == page.id), None)
        kept = {} if earlier is None else {key: time for key in ("started", "finished") if (time := getattr(earlier, key))}
        if about.keys() - kept.keys() or earlier is None:
            self.store.write_manifest(replace(page, environment=self.environment, **{**about, **kept}))

    def missing(self, ask: Ask, cell: Cell) -> list[Task]:
        """The tasks of a cell that the Store lacks. Damaged pieces are set aside first, and said."""
        self.store.declare(cell.id, canonical(cell.as_dict()))
        for moved in self.store.set_aside(cell.id):
            log.warning("%s was not whole; it is set aside and its rows are computed anew.", moved)
            self.summary.repaired.append(moved)
        self.refuse_half_kept(cell)
        tasks = []
        for shard, wanted in plan.shards(ask.samples.asked):
            reached = min(wanted, self.store.reached(cell.id, shard))
            self.done += reached
            stops = [*range(reached + _stride(ask, cell), wanted, _stride(ask, cell)), wanted] if reached < wanted else []
            tasks += [Task(ask, cell, shard, begin, stop) for begin, stop in zip([reached, *stops], stops, strict=False)]
        return tasks

    def refuse_half_kept(self, cell: Cell) -> None:
        """Raises UsageError where something is to be kept of rows that are here without it: they would not be computed again."""
        pieces, keep = self.store.pieces(cell.id), self.plan.settings.keep
        lacking = {
            "logits": "logits" in keep and any("logits" not in piece.read(["logits"]).column_names for piece in pieces),
            "adversarial": "adversarial" in keep and _is_attack(cell) and any("images" not in self.store.about(piece) for piece in pieces),
        }
        for what in (name for name, lacks in lacking.items() if lacks):
            raise UsageError(
                f"--keep {what}: rows of '{cell}' are in {self.store.path} without their {_KEPT_WORDS[what]}. Give a new place with --store."
            )

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Decodes what the tasks need, once for each data set and view, with the workers asked for."""
        for samples, view in dict.fromkeys((task.ask.samples, task.cell.view) for task in tasks):
            pictures = ImageCache(samples.data, view, workers=self.plan.settings.workers)
            pictures.ensure(samples.asked, progress=lambda done, total: self.tell(f"reading images, {done} of {total}"))
            self.pictures[samples.data.fingerprint, view] = pictures

    def attempt(self, task: Task) -> bool:
        """Computes a task under its lease, unless the time is spent; False while another process holds it.

        The first is tried whatever the time, so that runs with too little of it come to an end all the same.
        """
        if task.cell.id in self.summary.failed:
            return True
        if self.deadline.passed and self.tried:
            self.summary.stopped = True
            return True
        self.tried = True
        if task.cell.after and self.store.reached(task.cell.earlier.id, task.shard) < task.wanted:
            return self.cut_off(task)
        if not self.learn(task):
            return task.cell.id in self.summary.failed
        with self.store.lease(task.cell.id, task.shard) as mine:
            if not mine:
                return False
            reached = self.store.reached(task.cell.id, task.shard)
            if reached < task.wanted:
                self.compute(task, reached)
            else:
                self.done += task.wanted - task.begin
        return True

    def cut_off(self, task: Task) -> bool:
        """Whether the attack before this one failed, so that this one cannot be made; False while it is still to come."""
        reason = self.store.failure(task.cell.earlier.id)
        if reason is not None:
            self.fail(task, RobustvitError(f"the attack before it failed: {reason}"))
        return reason is not None

    def learn(self, task: Task) -> bool:
        """Whether what the task's scenario learns from other samples is at hand; False where another process is at it, or it failed."""
        lesson = task.cell.lesson
        if lesson is None or self.store.learned(lesson) is not None:
            return True
        with self.store.lease(lesson, 0) as mine:
            if not mine:
                return False
            if self.store.learned(lesson) is None:
                self.tell(f"{task.ask.label} · learning {title(task.cell, task.ask)}")
                cell, plugins = task.cell, plan.plugins_of(task.cell, self.plan)
                work = functools.partial(fit, self.host(task), cell.view, cell.scenario, cell.seed, plugins, self.plan.settings.workers)
                made = self.tried_to(work, task)
                if made is None:
                    return False
                self.store.keep_learned(lesson, made)
        return True

    def tried_to(self, work: Callable[[], T], task: Task) -> T | None:
        """What comes of the work; where it fails, as a scenario or a model may, the cell has failed."""
        try:
            return work()
        except (StoreError, DataError):
            raise
        except _CELL_FAULTS as error:
            self.fail(task, error)
            return None

    def compute(self, task: Task, start: int) -> None:
        self.tell(f"{task.ask.label} · {title(task.cell, task.ask)}")
        began = time.perf_counter()
        answers = self.tried_to(lambda: self.answer(task, start), task)
        if answers is None:
            return
        about = {
            "seconds": round(time.perf_counter() - began, 6), "environment": self.environment, "version": __version__,
            "tile": self.host(task).tile, "device": str(self.host(task).device),
        }  # fmt: skip
        if answers.kept is not None:
            about["images"] = self.keep_images(task, start, answers.kept)
        self.store.write(task.cell.id, task.shard, start, answers.rows, about)
        self.store.succeed(task.cell.id)
        if len(answers.seen):
            self.store.hang(task.cell.id, _hung(answers))
        self.summary.computed += answers.rows.num_rows
        self.done += task.wanted - start
        self.tell(f"{task.ask.label} · {title(task.cell, task.ask)}")

    def keep_images(self, task: Task, start: int, kept: dict[str, np.ndarray]) -> str:
        """Keeps what an attack left, before its rows, which tell the file's checksum."""
        about = {"cell": task.cell.id, "earlier": task.cell.earlier.id if task.cell.after else ""}
        return self.store.keep_images(task.cell.id, task.shard, start, kept, task.wanted, about)

    def answer(self, task: Task, start: int) -> Answers:
        first = task.shard * SHARD
        rows = np.arange(first + start, first + task.wanted)
        show = _shown(task) if task.shard == 0 and start == 0 else ()
        samples = task.ask.samples
        pictures = self.pictures[samples.data.fingerprint, task.cell.view].rows(rows)
        return evaluate(
            task.cell, self.host(task), samples.data, pictures, samples.positions[rows],
            plugins=plan.plugins_of(task.cell, self.plan), keep=self.plan.settings.keep, show=show, earlier=self.earlier(task, start),
            learned=None if task.cell.lesson is None else self.store.learned(task.cell.lesson),
        )  # fmt: skip

    def earlier(self, task: Task, start: int) -> pd.DataFrame | None:
        """What the attacks before a task's left of its samples."""
        if not task.cell.after:
            return None
        pieces = [piece for piece in self.store.pieces(task.cell.earlier.id) if piece.shard == task.shard]
        return records.read(pieces).iloc[start : task.wanted].reset_index(drop=True)

    def host(self, task: Task) -> Classifier:
        """The task's model with its transforms; one pipeline of one model is kept at a time."""
        key = (task.ask.label, task.cell.transforms, task.cell.view if task.cell.view.shown else None)
        if key not in self.hosts:
            self.hosts.clear()
            assert task.ask.model is not None
            self.hosts[key] = plan.host(task.ask.model, task.cell)
        return self.hosts[key]

    def fail(self, task: Task, error: BaseException) -> None:
        reason = str(error) if isinstance(error, RobustvitError) else f"{type(error).__name__}: {error}"
        log.warning("%s on %s failed: %s", title(task.cell, task.ask), task.ask.label, reason)
        if not isinstance(error, RobustvitError):
            log.info("%s", "".join(traceback.format_exception(error)))
        self.summary.failed[task.cell.id] = reason
        self.store.fail(task.cell.id, reason)

    def tell(self, what: str) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total, what)


def _stride(ask: Ask, cell: Cell) -> int:
    """The rows of a task: a shard, but of attacks and certificates, which take long, what is worked on at once."""
    assert ask.model is not None
    kind = registry.scenario(cell.scenario.name).kind
    return rows_at_once(kind, ask.model.tile, cell.view.size) if kind in ("attack", "certificate") else SHARD


def _is_attack(cell: Cell) -> bool:
    return registry.scenario(cell.scenario.name).kind == "attack"


def _shown(task: Task) -> Sequence[int]:
    """The rows that are kept as pictures: the first few, or a few of the first clip from its beginning to its end."""
    ids, positions = task.ask.samples.data.ids, task.ask.samples.positions
    length = int(starts(ids, positions[: min(task.wanted, SHARD)])[1])
    return range(task.wanted)[:_SHOWN] if length == 1 else range(0, length, _FRAMES_APART)[:_SHOWN]


def _hung(answers: Answers) -> pa.Table:
    rows = answers.rows.take(list(answers.shown))
    preds = rows["pred"] if "pred" in rows.column_names else pa.nulls(len(answers.seen), pa.int32())
    return pa.table({"sample": rows["sample"], "label": rows["label"], "pred": preds, "image": [_encoded(image) for image in answers.seen]})


def _encoded(image: np.ndarray) -> bytes:
    """PNG for what is small, JPEG at quality 90 without chroma subsampling for what is not."""
    sink = io.BytesIO()
    if max(image.shape[:2]) <= 64:
        Image.fromarray(image).save(sink, "PNG")
    else:
        Image.fromarray(image).save(sink, "JPEG", quality=90, subsampling=0)
    return sink.getvalue()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
