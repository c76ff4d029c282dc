"""The settings of a run: where and how fast it computes, and what else it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from robustvit.errors import BadParameter, nearest, with_article
from robustvit.evaluation.environment import AUTO
from robustvit.evaluation.time_budget import seconds
from robustvit.primitives.classifier import PRECISIONS
from robustvit.spec.coercion import check_seed
from robustvit.spec.given import check_path, check_whole
from robustvit.spec.spec import Spec
from robustvit.spec.view import Overrides

KEPT = ("logits", "adversarial")
MOST_WORKERS = 1024  # threads, or processes
EXECUTORS = ("local", "torchrun", "ray", "slurm")


@dataclass(frozen=True)
class Settings:
    """Where and how fast a run computes, and what else it keeps. Of these `precision`, `view`, `storage`, `surrogates` and
    `seed` are part of a cell.

    device: auto is a GPU where there is one. batch_size: rows per tile; auto finds how many are fastest, and the forward mode that is.
    Where memory runs out they are halved. workers: threads that decode images in parallel. limit: samples per cell, a count, or a float in
    (0, 1], a share. keep: any of KEPT. view: overrides of the models' own view. storage: replaces the suite's. data_dir: where the data's
    files are; for a suite on several data sets, the folder that holds theirs by name. budget: `10m`, or seconds, after which no new work is
    begun.
    surrogates: replaces the suite's: the models on which the images of attacks are crafted, by address or Classifiers, or `models`.
    latency: whether to measure the seconds that an image takes each model and pipeline of transforms on this machine. skip_missing:
    whether to leave out those data sets of a suite whose files are not here, which a run then tells.
    executor: of EXECUTORS, who computes. processes: workers, each of which loads the models; None is one, on a Ray cluster as many as there
    is room for. device: also several, `cuda:0,1`, a process for each. address: of a Ray cluster. resources: of a worker, by the executor's
    names: num_gpus of Ray, partition of Slurm.
    """

    device: str = "auto"
    batch_size: int | Literal["auto"] | None = None
    workers: int = 0
    precision: str = "float32"
    limit: int | float | None = None
    seed: int | None = None
    keep: tuple[str, ...] = ()
    view: Overrides = field(default_factory=Overrides)
    storage: Spec | None = None
    data_dir: Path | None = None
    budget: str | float | None = None
    surrogates: Sequence[Any] = ()
    latency: bool = False
    skip_missing: bool = False
    executor: str = "local"
    processes: int | None = None
    address: str | None = None
    resources: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises BadParameter for values that no run can have."""
        if isinstance(self.keep, str) or not isinstance(self.keep, Sequence):
            raise BadParameter(f"keep is {self.keep!r}; it takes a tuple of {' and '.join(KEPT)}.")
        for name in self.keep:
            if name not in KEPT:
                raise BadParameter(f"--keep '{name}' is unknown.{nearest(name, KEPT)} It takes {' and '.join(KEPT)}.")
        check_whole(self.workers, "--workers", 0, MOST_WORKERS)
        if self.precision not in PRECISIONS:
            raise BadParameter(f"precision is {self.precision!r}; it takes {', '.join(PRECISIONS)}.")
        if self.batch_size not in (None, AUTO):
            check_whole(self.batch_size, "--batch-size", 1, 2**31)
        for what, value, kind in (("view", self.view, Overrides), ("storage", self.storage, Spec | None)):
            if not isinstance(value, kind):
                raise BadParameter(f"{what} is {value!r}; it takes {'Overrides' if what == 'view' else 'a bound Spec'}, or nothing.")
        if isinstance(self.surrogates, str) or not isinstance(self.surrogates, Sequence):
            raise BadParameter(f"surrogates are {with_article(type(self.surrogates).__name__)}; it takes a list of models, or ['models'].")
        if self.data_dir is not None:
            check_path(self.data_dir, "--data-dir")
        self._check_workers()
        if self.seed is not None:
            check_seed(self.seed)
        if self.budget is not None:
            seconds(self.budget)

    def _check_workers(self) -> None:
        if self.executor not in EXECUTORS:
            raise BadParameter(
                f"--executor '{self.executor}' is unknown.{nearest(self.executor, EXECUTORS)} It takes {', '.join(EXECUTORS)}."
            )
        if self.processes is not None:
            check_whole(self.processes, "--processes", 1, MOST_WORKERS)
        taken = {"processes": ("local", "ray", "slurm"), "address": ("ray",), "resources": ("ray", "slurm")}
        for name, executors in taken.items():
            if getattr(self, name) not in (None, {}) and self.executor not in executors:
                raise BadParameter(f"--{name} is not for --executor {self.executor}; {' and '.join(executors)} {_takes(executors)} it.")
        if "," in str(self.device) and (self.executor != "local" or self.processes is not None):
            raise BadParameter(
                f"--device {self.device}: several devices are for --executor local, a process for each; leave --processes out."
            )


def _takes(names: Sequence[str]) -> str:
    return "takes" if len(names) == 1 else "take"
