"""One process, one task after another; tasks that another process holds are looked at again until they are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Task = TypeVar("Task")

_PATIENCE = 0.2  # seconds between two looks at tasks that another process holds


def run(tasks: Iterable[Task], attempt: Callable[[Task], bool]) -> None:
    """Attempts every task; `attempt` returns False while another process holds it, and it is attempted again later."""
    waiting = list(tasks)
    while waiting:
        held = [task for task in waiting if not attempt(task)]
        if len(held) == len(waiting):
            time.sleep(_PATIENCE)
        waiting = held
