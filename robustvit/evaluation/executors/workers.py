"""A worker that another process starts: what it is given, whether both mean the same run, and its share of that."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from robustvit.errors import RobustvitError, UsageError
from robustvit.evaluation import environment, requested
from robustvit.evaluation.executors.shares import Share, ShareOutcome
from robustvit.evaluation.plan import Plan
from robustvit.evaluation.run_steps import RunSteps
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.time_budget import Deadline
from robustvit.records.store import Store
from robustvit.spec.spec import digest
from robustvit.spec.suite import Suite
from robustvit.version import __version__


@dataclass(frozen=True)
class RunRequest:
    """A run as its workers are given it. All of it can be pickled where its models and its data can be.

    count: of workers; seconds: how long they may begin new work, None without end; since: when the run began, by the store's clock.
    versions, cells: what a worker must have, and find, too.
    """

    suite: Suite
    models: Sequence[Any]
    data: Any
    settings: Settings
    store: Path | str
    command: str
    count: int
    seconds: float | None
    since: float
    versions: Mapping[str, str]
    cells: str


def versions() -> dict[str, str]:
    """The versions that must be the same where the rows of one cell are computed on several machines."""
    return {
        "robustvit": __version__, "torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }  # fmt: skip


def cells_digest(plan: Plan) -> str:
    """The digest of the cells of a plan, by which two processes know that they mean the same."""
    return digest(sorted({cell.id for cell in plan.cells if cell.resolved}))


def compute_share(request: RunRequest, index: int, device: str | None = None) -> ShareOutcome:
    """Computes one worker's share of a run, on a device of its own where one is given. An error is told, and raised by none."""
    try:
        return _share(request, index, device)
    except RobustvitError as error:
        return ShareOutcome(error=f"{platform.node()}: {error}")


def _share(request: RunRequest, index: int, device: str | None) -> ShareOutcome:
    here = versions()
    if other := [name for name, version in request.versions.items() if here[name] != version]:
        told = ", ".join(f"{name} {here[name]} in place of {request.versions[name]}" for name in other)
        raise UsageError(f"this worker has {told}. Install the same versions on every machine: numbers could differ.")
    environment.determine()
    settings = request.settings if device is None else replace(request.settings, device=device)
    plan = requested.make(request.suite, request.models, request.data, settings)
    if cells_digest(plan) != request.cells:
        raise UsageError("this worker has other weights or other data than the process that started it. Give every machine the same files.")
    share = Share(index, request.count, request.since, led=True)
    steps = RunSteps(plan, Store(request.store), None, request.command, Deadline(request.seconds), share)
    steps.compute(steps.prepare())
    steps.store.verified.save()
    return steps.outcome()
