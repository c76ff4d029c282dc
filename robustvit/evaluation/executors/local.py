"""One process, one task after another; tasks that another process holds are tried again until they are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from robustvit.evaluation.tasks import Busy, Outcome, Task
from robustvit.evaluation.worker import Worker

_PATIENCE = 0.2  # seconds between two tries of tasks that another process holds


def run_tasks(
    tasks: Iterable[Task], worker: Worker, record: Callable[[Task, Outcome], None], stop: Callable[[Task], bool]
) -> None:  # fmt: skip
    """Gives every task to the worker and records its outcome; one that is Busy is tried again later.

    stop: whether a task may not be begun any more.
    """
    waiting = list(tasks)
    while waiting:
        held = []
        for task in waiting:
            if stop(task):
                return
            outcome = worker.do(task)
            if isinstance(outcome, Busy):
                held.append(task)
            else:
                record(task, outcome)
        if len(held) == len(waiting):
            time.sleep(_PATIENCE)
        waiting = held
