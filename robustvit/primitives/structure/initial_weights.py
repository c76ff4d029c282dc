"""The same initial weights wherever a transform adds layers that are to be trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Context in which layers on the CPU begin with the same weights each time; torch's generator is afterwards as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
