"""Several processes that train one model, each on its share of every batch, as torchrun starts them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from robustvit.errors import BadParameter

_PATIENCE = datetime.timedelta(minutes=10)
T = TypeVar("T")


class Processes(NamedTuple):
    """This process and how many there are. rank: from 0; the first one writes files and reports."""

    rank: int = 0
    number: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and reports."""
        return self.rank == 0

    def own(self, rows: np.ndarray) -> np.ndarray:
        """This process's share of the rows of a batch, which the others have the rest of. Shares may differ by one row."""
        return rows[self.rank :: self.number]

    def check(self, batch_size: int) -> None:
        """Raises BadParameter for batches that leave a process without a row."""
        if batch_size < self.number:
            raise BadParameter(f"training's batch_size is {batch_size}, and {self.number} processes share it: give at least {self.number}.")

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by the sum over all processes, in one message. A gradient that is absent counts as 0."""
        if self.number == 1:
            return
        trained = [one for one in parameters if one.requires_grad]
        flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in trained])
        distributed.all_reduce(flat)
        for one, part in zip(trained, torch.split(flat, [one.numel() for one in trained]), strict=True):
            one.grad = part.view_as(one).clone()

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a number over all processes."""
        if self.number > 1:
            distributed.all_reduce(value)
        return value

    def agree(self, wish: bool) -> bool:
        """Whether the first process wishes it, which holds for all."""
        return bool(self.gather(wish)[0])

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.number == 1:
            return [value]
        found: list[Any] = [None] * self.number
        distributed.all_gather_object(found, value)
        return found


def started(device: torch.device) -> Processes:
    """Those that torchrun started, joined into a group; one alone without it. Raises BadParameter where they cannot meet."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise BadParameter(f"{count} processes are to train together and cannot meet: {error}. Start them by torchrun.") from error
    return Processes(distributed.get_rank(), count)


def is_first() -> bool:
    """Whether this process writes files and reports: the only one, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def local_device(name: str) -> str:
    """`cuda` as this process's own GPU where torchrun started several; any other name as it is."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


def same_everywhere(processes: Processes, values: Sequence[str], what: str) -> None:
    """Raises BadParameter where the processes disagree on something that all of them must share."""
    if any(list(found) != list(values) for found in processes.gather(list(values))):
        raise BadParameter(f"the processes that train together have different {what}; give all of them the same options and files.")
