"""The status of a store: how far its newest run is, what failed, and who computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from robustvit.records.listing import list_store
from robustvit.records.manifest import RequestedCell
from robustvit.records.manifest_files import run_manifests
from robustvit.records.questions import model_names
from robustvit.records.run_progress import RunProgress, newest_run
from robustvit.records.status.pace import Pace, pace
from robustvit.records.status.worker_files import RunningWorker, running_workers, store_time
from robustvit.records.store import Store

RunState = Literal["not begun", "going on", "stopped", "complete", "failed"]


class FailedCell(NamedTuple):
    """A cell that failed, in words, and why."""

    cell: str
    reason: str


@dataclass(frozen=True)
class RunStatus:
    """How far the newest run of a store is.

    state: "not begun" where no run has; "failed" where nothing is left to do but cells that failed; "stopped" where rows are missing and
    nobody is seen to compute. suite: "" before a run. models: their labels. cells: how many have a value once they are computed, and
    complete: how many are; undefined: how many have none whatever is computed. rows, asked: those that are there, those that were
    requested. pace: None where it is not known. newest: when the last row came, in seconds since 1970, None before the first. now: when
    this was, by the store's clock. runs: how many the store has. damage: what is damaged of the manifests, "" where nothing is.
    """

    store: Path
    now: float
    state: RunState = "not begun"
    suite: str = ""
    models: tuple[str, ...] = ()
    cells: int = 0
    complete: int = 0
    undefined: int = 0
    rows: int = 0
    asked: int = 0
    pace: Pace | None = None
    failures: tuple[FailedCell, ...] = ()
    workers: tuple[RunningWorker, ...] = ()
    newest: float | None = None
    runs: int = 0
    command: str = ""
    damage: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but cells that failed."""
        return self.state in ("complete", "failed")


def status(store: Store | Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> RunStatus:
    """How far the newest run of a store is. Rows are not read, and nothing is left in the store.

    suite, models: only runs of these, and of their cells only those. Raises StoreError where there is no store, or no such suite or model
    in its runs, StoreDamaged where all manifests are damaged.
    """
    place = store if isinstance(store, Store) else Store(store)
    now = store_time(place.path)  # before the files are listed: none of these came later than the pace is taken at
    listing, (manifests, damage) = list_store(place.path), run_manifests(place.path)
    workers = tuple(running_workers(place.path, now))
    told = str(damage or "")
    chosen = model_names(models)
    run = newest_run(place, listing, manifests, suite, chosen)
    if run is None:
        return RunStatus(place.path, now, workers=workers, damage=told)
    since = first_began(workers)
    found = pace(run, listing, now, since)
    return RunStatus(
        place.path, now, _state(run, found, workers), run.manifest.suite.name, tuple(dict.fromkeys(one.cell.model for one in run.cells)),
        len(run.defined), run.counts.get("complete", 0), run.counts.get("undefined", 0), run.rows, run.asked, found,
        tuple(FailedCell(_title(one.cell), one.reason) for one in run.cells if one.state == "failed"), workers, run.newest, run.runs,
        run.manifest.command, told,
    )  # fmt: skip


def first_began(workers: Iterable[RunningWorker]) -> float | None:
    """When the first of some workers began, None where there is none."""
    return min((one.since for one in workers), default=None)


def _state(run: RunProgress, found: Pace | None, workers: tuple[RunningWorker, ...]) -> RunState:
    if run.over:
        return "failed" if run.counts.get("failed") else "complete"
    return "going on" if workers or found is not None else "stopped"


def _title(cell: RequestedCell) -> str:
    """`fog 3 of a → soft on digits`."""
    parts = (cell.scenario, cell.severity, f"step {cell.link} of {cell.links}" if cell.links else "", f"of {cell.model}")
    return " ".join(filter(None, (*parts, f"→ {cell.transforms}" if cell.transforms else "", f"on {cell.data}")))
