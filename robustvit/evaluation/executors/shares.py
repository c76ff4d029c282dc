"""What several workers share: the tasks of one run, through the leases of its Store, and what each tells when it is done.

Every worker makes the plan of the run itself and knows all of its tasks. It begins with every n-th, the longest first, and then takes over
what the others have not begun; a lease keeps two from computing the same. Whichever is killed, the others finish its tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustvit.evaluation.tasks import Task


@dataclass(frozen=True)
class Share:
    """Which worker of how many this is. since: when the run began by the store's clock; cells that failed later are not tried again."""

    index: int = 0
    count: int = 1
    since: float | None = None
    led: bool = False

    @property
    def leads(self) -> bool:
        """Whether this one checks what is checked once, and writes the manifest: the first, where no other process leads them."""
        return self.index == 0 and not self.led

    def order(self, tasks: Sequence[Task], cost: Callable[[Task], float]) -> list[Task]:
        """The tasks in the order to compute them: as they are for a worker alone.

        Of several, those that wait for others come later, and of the rest those that take longest first: every count-th from `index` on,
        then what the others have, last first, so that two seldom meet.
        """
        if self.count == 1:
            return list(tasks)
        longest = sorted(tasks, key=lambda task: (task.cell.waits_for is not None, -cost(task)))
        own = longest[self.index :: self.count]
        others = [task for at, task in enumerate(longest) if at % self.count != self.index]
        ready = [task for task in others[::-1] if task.cell.waits_for is None]
        return own + ready + [task for task in others if task.cell.waits_for is not None]


@dataclass(frozen=True)
class ShareOutcome:
    """What a worker did: rows that it computed; why cells failed, and why scenarios refused models, by cell id.

    stopped: whether the time was spent before the work was done. error: what ended the worker early, with the name of its machine.
    """

    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    repaired_digests: list[Path] = field(default_factory=list)
    error: str = ""
