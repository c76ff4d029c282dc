"""Who computes a run: this process, processes of this machine, a Ray cluster, or an array job of Slurm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from robustvit.errors import WorkersLost
from robustvit.evaluation.executors.processes import run_processes
from robustvit.evaluation.executors.ray_cluster import check_ray, run_on_ray
from robustvit.evaluation.executors.shares import ShareOutcome
from robustvit.evaluation.executors.slurm import run_on_slurm, submitit_module
from robustvit.evaluation.executors.workers import RunRequest
from robustvit.evaluation.run_steps import RunSteps
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.tasks import Task

log = logging.getLogger(__name__)
_LOOK = 1.0  # seconds between two looks at the store, at least
_PATIENCE = 20  # times as long as a look takes, until the next
_TOLD = 3  # reasons in a message


def alone(settings: Settings, devices: Sequence[str]) -> bool:
    """Whether a run is computed in this process: under torchrun, and without an executor, devices or a number of processes."""
    return settings.executor == "torchrun" or (settings.executor == "local" and (settings.processes or 1) == 1 and len(devices) == 1)


def check_workers(settings: Settings) -> None:
    """Raises what keeps the workers that settings name from being had, before anything is loaded: see `check_ray`, `submitit_module`."""
    if settings.executor == "ray":
        check_ray(settings.address, settings.resources)
    elif settings.executor == "slurm":
        submitit_module()


def compute_with(
    steps: RunSteps, tasks: Sequence[Task], settings: Settings, devices: Sequence[str], request: Callable[[int], RunRequest]
) -> None:
    """Computes the tasks of a run with the workers that its settings name, and adds what they did to its steps.

    request: makes what so many workers are given. Workers that are lost are started again; where all rows come to be there, a warning says
    which were lost for good. Raises WorkersLost where they do not, and what `run_processes`, `run_on_ray` and `run_on_slurm` raise.
    """
    look = _Look(steps, tasks)
    look()
    if settings.executor == "ray":
        outcomes = run_on_ray(request, settings.address, settings.processes, settings.resources, look)
    elif settings.executor == "slurm":
        outcomes = run_on_slurm(request(settings.processes or 1), settings.resources, look)
    else:
        places = list(devices) if len(devices) > 1 else [None] * (settings.processes or 1)
        outcomes = run_processes(request(len(places)), places, look)
    steps.take(outcomes)
    lost = [one.error for one in outcomes if one.error]
    left = 0 if steps.summary.stopped else sum(one.stop - one.begin for one in steps.left(tasks))
    if left:
        raise WorkersLost(_told(lost, outcomes, left))
    for reason in lost:
        log.warning("a worker was lost, and others did its work: %s", reason)


def _told(lost: Sequence[str], outcomes: Sequence[ShareOutcome], left: int) -> str:
    reasons = list(dict.fromkeys(lost))
    more = f"; {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
    why = "; ".join(reasons[:_TOLD]) + more
    return (
        f"{len(lost)} of {len(outcomes)} workers ended early, and {left:,} rows are still to compute: {why or 'no worker says why'}. "
        "The same command goes on from there."
    )


class _Look:
    """Shows how far a run is, by what its store holds; called often, it looks seldom."""

    def __init__(self, steps: RunSteps, tasks: Sequence[Task]) -> None:
        self.steps, self.tasks = steps, list(tasks)
        self.after = 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        if began < self.after or self.steps.progress is None:
            return
        self.tasks = self.steps.left(self.tasks)
        self.steps.done = self.steps.total - self.steps.work.of(self.tasks)
        self.steps.show(self.steps.worker.title(self.tasks[0]) if self.tasks else "finishing")
        self.after = time.monotonic() + max(_LOOK, _PATIENCE * (time.monotonic() - began))
