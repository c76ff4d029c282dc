"""Workers as an array job of Slurm, which submitit submits and, where it was preempted, submits again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from robustvit.errors import BadParameter, MissingExtra, WorkersLost
from robustvit.evaluation.executors.packing import packed, share_of_packed
from robustvit.evaluation.executors.shares import ShareOutcome
from robustvit.evaluation.executors.workers import RunRequest
from robustvit.records.remote.object_place import url_of

_PAUSE = 1.0  # seconds between two looks at the jobs
_NAME = "robustvit"
_SHARED = {"nodes", "gpus_per_node", "tasks_per_node", "mem_gb", "cpus_per_task", "timeout_min", "stderr_to_stdout"}


class _ShareJob:
    """A share as submitit calls it; preempted, it is submitted again as it is: the store has what it had computed."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self, index: int) -> ShareOutcome:
        return share_of_packed(self.content, index)

    def checkpoint(self, index: int) -> Any:
        """What submitit submits in place of a share that was preempted: the same."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, index)


def submitit_module() -> Any:
    """The package that submits jobs. Raises MissingExtra where it is not installed."""
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise MissingExtra("--executor slurm needs submitit: python3 -m pip install 'robustvit[slurm]'.") from error
    return submitit


def run_on_slurm(request: RunRequest, resources: Mapping[str, str], watch: Callable[[], None]) -> list[ShareOutcome]:
    """Computes the shares of a run as an array job; what they did, and what ended those that did not come to an end.

    resources: parameters of submitit's executor: partition, timeout_min, gpus_per_node, cpus_per_task, mem_gb, …, and `cluster`, by which
    submitit chooses (slurm, or local for a machine without it). The logs of a run that lost workers stay beside the store, in
    `<store>.jobs`, of a store in a bucket in the working directory. watch: called again and again while they compute. Raises MissingExtra
    without submitit, WorkersLost where there is no Slurm, BadParameter for a parameter that submitit does not know.
    """
    submitit = submitit_module()
    given = dict(resources)
    cluster = given.pop("cluster", "slurm")
    folder = _logs_of(request.store)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name=_NAME, **{_full(name): _value(text) for name, text in given.items()})
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise BadParameter(f"--resources: {' '.join(str(error).split())[:400]}") from error
    except (RuntimeError, OSError) as error:
        raise WorkersLost(f"--executor slurm: {error}. Run it where `sbatch` is, or give --resources cluster=local.") from error
    job = _ShareJob(packed(request))
    jobs = executor.map_array(job, list(range(request.count)))
    try:
        while not all(one.done() for one in jobs):
            watch()
            time.sleep(_PAUSE)
    except BaseException:
        for one in jobs:
            one.cancel()
        raise
    found = [_outcome(one) for one in jobs]
    if not any(one.error for one in found):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _logs_of(store: Path | str) -> Path:
    """Where submitit keeps what it hands to jobs, and their logs."""
    beside = Path(store) if url_of(store) is None else Path(PurePosixPath(store).name)
    return beside.with_name(f"{beside.name}.jobs")


def _full(name: str) -> str:
    """A parameter under its name in submitit: those of Slurm alone begin with `slurm_`."""
    return name if name in _SHARED or name.startswith("slurm_") else f"slurm_{name}"


def _value(text: str) -> Any:
    return int(text) if text.isdecimal() else text


def _outcome(job: Any) -> ShareOutcome:
    try:
        found: ShareOutcome = job.result()
        return found
    except Exception as error:  # noqa: BLE001 — whatever ended it on its machine
        lines = [line for line in str(error).splitlines() if line.strip()]
        return ShareOutcome(error=f"job {job.job_id}: {lines[-1].strip()[:300] if lines else type(error).__name__}")
