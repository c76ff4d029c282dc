"""The share of a process that torchrun started: its rank among all, and a GPU of its own."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from robustvit.errors import BadParameter, UsageError
from robustvit.evaluation.environment import AUTO
from robustvit.evaluation.executors.shares import Share
from robustvit.evaluation.settings import Settings

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def torchrun_share(settings: Settings, since: float) -> tuple[Share, Settings]:
    """Which worker this process is, and the settings with the device of its own.

    since: when the run began, by the store's clock. Raises UsageError where torchrun did not start this process, or with a device that all
    processes of a machine would share.
    """
    lacking = [name for name in _VARIABLES if not os.environ.get(name, "").isdecimal()]
    if lacking:
        raise UsageError(
            f"--executor torchrun: {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set. Start it with torchrun: "
            "torchrun --nproc-per-node 2 -m robustvit run --executor torchrun …"
        )
    rank, count, local = (int(os.environ[name]) for name in _VARIABLES)
    if rank >= count:
        raise UsageError(f"RANK is {rank}; WORLD_SIZE is {count}, so it takes 0 to {count - 1}.")
    if settings.device not in (AUTO, "cpu", "cuda"):
        raise BadParameter(
            f"--device {settings.device}: every process of --executor torchrun takes a GPU of its own. Give cuda, cpu or auto."
        )
    cuda = settings.device == "cuda" or (settings.device == AUTO and torch.cuda.is_available())
    return Share(rank, count, since), replace(settings, device=f"cuda:{local}" if cuda else "cpu")
