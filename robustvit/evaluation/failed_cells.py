"""The cells of a run that failed: found by this worker, or by another one of the same run."""

from __future__ import annotations

import logging
import traceback

from robustvit.errors import RobustvitError
from robustvit.evaluation.cost.tile_size import out_of_memory
from robustvit.evaluation.tasks import FAILURE_MESSAGE, Failed, Task
from robustvit.records.sharing.failures import failed_since
from robustvit.records.store import Store

log = logging.getLogger(__name__)
_LESS_MEMORY = " That was with one row of a forward pass: it takes a smaller model or image, or a --device with more memory."


class FailedCells:
    """since: for one of several workers, when their run began by the store's clock: a cell that failed later is not tried again."""

    def __init__(self, store: Store, since: float | None) -> None:
        self._store, self._since = store, since
        self._known: dict[str, Failed] = {}

    def of(self, cell: str) -> Failed | None:
        """The failure of a cell; None where it has not failed in this run."""
        if self._since is not None and cell not in self._known:
            reason = failed_since(self._store, cell, self._since)
            if reason is not None:
                self._known[cell] = Failed(reason)
        return self._known.get(cell)

    def note(self, task: Task, title: str, error: BaseException) -> Failed:
        """Keeps, here and in the store, that the cell of a task failed, and logs it. title: of the cell."""
        reason = str(error) if isinstance(error, RobustvitError) else f"{type(error).__name__}: {error}"
        reason += _LESS_MEMORY if out_of_memory(error) else ""
        log.warning(FAILURE_MESSAGE, title, task.model, reason)
        if not isinstance(error, RobustvitError):
            log.info("%s", "".join(traceback.format_exception(error)))
        self._store.fail(task.cell.id, reason)
        self._known[task.cell.id] = Failed(reason)
        return self._known[task.cell.id]
