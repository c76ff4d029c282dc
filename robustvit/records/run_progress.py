"""How far the newest run of a store is: its manifest names its cells, the names of files how many rows of each are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from robustvit.records.compacted.cell_files import named_files
from robustvit.records.listing import Files, Listing
from robustvit.records.manifest import Manifest, RequestedCell
from robustvit.records.questions import model_names, requested_questions
from robustvit.records.records import rows as count_rows
from robustvit.records.records_file import RowFile
from robustvit.records.store import Store

STATES = ("failed", "partial", "not begun", "complete", "undefined")
"""Of a cell, those first that a reader looks for."""


class CellProgress(NamedTuple):
    """A cell of a run, and how many of its requested rows are there. state: of STATES; reason: why it failed or has no value."""

    cell: RequestedCell
    rows: int
    state: str
    reason: str = ""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is. newest: when the last of its rows came, seconds since 1970, None before the first. runs: how many there are."""

    manifest: Manifest
    cells: tuple[CellProgress, ...]
    newest: float | None
    runs: int = 1

    @property
    def counts(self) -> dict[str, int]:
        """How many cells are in each state that there is, in the order of STATES."""
        found = Counter(one.state for one in self.cells)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def defined(self) -> list[CellProgress]:
        """The cells that have a value once they are computed: what a run counts."""
        return [one for one in self.cells if one.state != "undefined"]

    @property
    def rows(self) -> int:
        """The rows that are there."""
        return sum(one.rows for one in self.defined)

    @property
    def asked(self) -> int:
        """The rows that were requested."""
        return sum(one.cell.asked for one in self.defined)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but cells that failed."""
        return all(one.state in ("complete", "failed") for one in self.defined)

    @property
    def started(self) -> float:
        """When it was first started, seconds since 1970; 0 where the manifest does not say."""
        return _seconds(self.manifest.started)


def newest_run(
    store: Store, listing: Listing, manifests: Sequence[Manifest], suite: str | None = None, models: Iterable[str] | None = None
) -> RunProgress | None:
    """The run that began last, or whose cells got the last rows; None where no run has begun.

    manifests: of the store, oldest first. suite, models: only runs of these, and of their cells only those. Raises StoreError for a suite
    or model that no run requested, StoreDamaged where all manifests are damaged.
    """
    questions = requested_questions(manifests, suite, model_names(models), store.path)
    chosen = {(question.suite, question.cell) for question in questions}
    runs = [(run, own) for run in manifests if (own := [cell for cell in run.cells if (run.suite.name, cell.cell) in chosen])]
    if not runs:
        return None
    times = {cell: _newest(files) for cell, files in listing.cells.items()}
    newest = [max((times.get(cell.cell, 0.0) for cell in own), default=0.0) for _, own in runs]
    last = max(range(len(runs)), key=lambda place: (max(newest[place], _seconds(runs[place][0].started)), place))
    run, own = runs[last]
    once = {cell.cell: cell for cell in reversed(own)}  # the first step of a chain of attacks is also the cell of that attack alone
    cells = [_progress(store, once.pop(cell.cell), listing) for cell in own if cell.cell in once]
    return RunProgress(run, tuple(cells), newest[last] or None, len(runs))


def _progress(store: Store, cell: RequestedCell, listing: Listing) -> CellProgress:
    files = listing.cells.get(cell.cell, ())
    if cell.undefined:
        return CellProgress(cell, 0, "undefined", cell.undefined)
    rows = min(cell.asked, count_rows(_row_files(cell.cell, files)))
    if rows >= cell.asked:
        return CellProgress(cell, rows, "complete")
    if any(file.name == "failure.json" for file in files) and (reason := store.failure(cell.cell)) is not None:
        return CellProgress(cell, rows, "failed", reason)
    return CellProgress(cell, rows, "partial" if rows else "not begun")


def _row_files(cell: str, files: Files) -> list[RowFile]:
    return named_files((file.name for file in files), cell)


def _newest(files: Files) -> float:
    """When the last file of rows came, 0 before the first."""
    return max((file.changed for file in files if named_files([file.name], "")), default=0) / 1e9


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
