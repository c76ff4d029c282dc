"""Runs a Suite on models and data, and fills a Store. Killed at any moment, the same call goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from robustvit.errors import BadParameter, nearest
from robustvit.evaluation import environment, requested
from robustvit.evaluation.command_line import command_line
from robustvit.evaluation.executors.crew import alone, check_workers, compute_with
from robustvit.evaluation.executors.torchrun import torchrun_share
from robustvit.evaluation.executors.workers import RunRequest, cells_digest, versions
from robustvit.evaluation.images.kept_suite import named_suite
from robustvit.evaluation.outcome.progress import Progress, shown_or_default
from robustvit.evaluation.outcome.summary import Summary
from robustvit.evaluation.pipelines.requests import Model, given_models
from robustvit.evaluation.run_steps import RunSteps
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.time_budget import Deadline
from robustvit.primitives.batch import Data
from robustvit.records.sharing.failures import store_clock
from robustvit.records.store import Store
from robustvit.spec.suite import Suite


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
    same call goes on from there. Of several workers (`executor`, `processes`, devices) each computes what the others have not begun, in
    the store that they have in common. Raises UsageError, DataError, ModelError or StoreError before anything is computed, StoreError
    when the disk is full, WorkersLost where workers cannot be had or end before all is computed.
    """
    started = time.perf_counter()
    for name in options:
        if name not in Settings.__dataclass_fields__:
            known = list(Settings.__dataclass_fields__)
            raise BadParameter(f"run has no setting '{name}'.{nearest(name, known)} It takes {', '.join(known)}.")
    chosen = replace(settings or Settings(), **options)
    chosen.check()
    check_workers(chosen)
    if not isinstance(store, Store):
        Store.is_at(store)  # a bucket that is not there is told before anything is loaded
    bound = suite if isinstance(suite, Suite) else named_suite(suite)
    deadline = Deadline(chosen.budget)
    environment.determine()
    given = given_models(models)
    share = None
    if chosen.executor == "torchrun":
        share, chosen = torchrun_share(chosen, store_clock(_opened(store)))
    devices = environment.devices(chosen.device)
    made = requested.make(bound, given, data, chosen)
    cells = cells_digest(made)  # before a probe says which have no value
    place = _opened(store)
    words = command or command_line(bound, given, data, chosen, place)
    with shown_or_default(False if share and not share.leads else progress) as shown:
        steps = RunSteps(made, place, shown, words, deadline, share)
        tasks = steps.prepare()
        if not tasks or alone(chosen, devices):
            steps.compute(tasks)
        else:
            about = (store_clock(place), versions(), cells)
            compute_with(
                steps, tasks, chosen, devices,
                lambda count: RunRequest(bound, given, data, chosen, place.place, words, count, deadline.left, *about),
            )  # fmt: skip
        summary = steps.finish()
    summary.seconds = time.perf_counter() - started
    return summary


def _opened(store: Path | str | Store) -> Store:
    return store if isinstance(store, Store) else Store(store, create=True)
