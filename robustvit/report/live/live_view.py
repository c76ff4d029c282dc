"""What a view of a store shows: a page of its newest run, and the whole report, made anew where the store has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from robustvit.errors import RobustvitError, StoreError
from robustvit.records.listing import Listing, list_store
from robustvit.records.manifest_files import ManifestFiles, run_manifests
from robustvit.records.marker import is_there_yet
from robustvit.records.remote.mirror import mirror_of
from robustvit.records.remote.object_place import url_of
from robustvit.records.run_progress import RunProgress, newest_run
from robustvit.records.status.pace import pace
from robustvit.records.status.store_status import first_began
from robustvit.records.status.worker_files import running_workers, store_time
from robustvit.records.store import Store
from robustvit.report.live.live_numbers import LiveNumbers, live_numbers
from robustvit.report.live.live_page import LivePage, live_page, message_page, report_page
from robustvit.report.live.remade import Remade
from robustvit.report.page import render
from robustvit.results.leaderboard import build_leaderboard


class _Scored(NamedTuple):
    """What numbers are made of: the files of a store, and the run that they are shown for."""

    listing: Listing
    run: RunProgress


@dataclass
class _Known:
    """What was read of the store when its files were last listed. problem: why there is no run, "" where there is one."""

    listing: Listing | None = None
    manifests: ManifestFiles | None = None
    run: RunProgress | None = None
    problem: str = ""


class LiveView:
    """The pages of a store that may grow, or not be there yet. It is only read, and only where its files have changed.

    suite, models: show only these. Raises StoreError where something else is at the path, and for a suite or model that no run of a store
    with runs requested. now: seconds since 1970; default: by the store's clock.
    """

    def __init__(
        self, path: Path, suite: str | None = None, models: Sequence[str] | None = None, *, now: Callable[[], float] | None = None
    ) -> None:
        url = url_of(path)
        self._mirror = None if url is None else mirror_of(url)
        self._path = path = path if self._mirror is None else self._mirror.folder
        self._suite, self._models = suite, models
        self._now = now or (lambda: store_time(path))
        self._known, self._reading = _Known(), threading.Lock()
        self._numbers = Remade(self._made_numbers)
        self._report, self._rendering = (Listing(), ""), threading.Lock()
        if is_there_yet(path) and (manifests := Store(path).manifests()):
            newest_run(Store(path), Listing(), manifests, suite, models)

    def page(self, base: str) -> LivePage:
        """The page of the newest run. base: the path that leads to it, without a slash at its end."""
        now = self._now()
        with self._reading:
            known = self._read()
        if known.run is None or known.listing is None:
            return message_page(self._path, known.problem)
        of = _Scored(known.listing, known.run)
        made = self._numbers.latest(of)
        numbers = made.value if made is not None and made.of.run.manifest.id == known.run.manifest.id else None
        damage = known.manifests.damage if known.manifests is not None else None
        stale = made is not None and made.of != of
        workers = running_workers(self._path, now)
        return live_page(
            known.run, numbers, path=self._path, base=base, now=now, stale=stale, damage=str(damage or ""),
            pace=pace(known.run, known.listing, now, first_began(workers)), workers=workers,
        )  # fmt: skip

    def report(self, base: str) -> LivePage:
        """The whole report, rendered where the store has changed since it was last asked for."""
        with self._rendering:
            try:
                listing = list_store(self._path)
                if self._report[0] != listing or not self._report[1]:
                    store = Store(self._path)
                    self._report = listing, render(build_leaderboard(store, suite=self._suite, models=self._models), store)
            except (RobustvitError, OSError) as error:
                return message_page(self._path, str(error), back=f"{base}/")
            return report_page(self._report[1])

    def close(self, seconds: float) -> None:
        """Waits until no numbers are being computed, so long at most, and as long for a report."""
        self._numbers.wait(seconds)
        if self._rendering.acquire(timeout=seconds):
            self._rendering.release()

    def _read(self) -> _Known:
        """What is known of the store now; nothing is read where no file has changed."""
        before = self._known
        try:
            if self._mirror is not None:
                self._mirror.update()
        except StoreError as error:
            self._known = replace(before, listing=None, problem=str(error))
            return self._known
        listing = list_store(self._path)
        if listing == before.listing:
            return before
        self._known = known = _Known(listing)
        try:
            if not is_there_yet(self._path):
                return known
            store = Store(self._path)
            same = before.manifests is not None and before.listing is not None and before.listing.runs == listing.runs
            known.manifests = before.manifests if same else run_manifests(store.path)
            assert known.manifests is not None
            known.run = newest_run(store, listing, known.manifests.manifests, self._suite, self._models)
        except (RobustvitError, OSError) as error:
            known.problem = str(error)
        return known

    def _made_numbers(self, of: _Scored) -> LiveNumbers:
        run = of.run.manifest
        try:
            return live_numbers(build_leaderboard(self._path, suite=run.suite.name, models=self._models), run)
        except (RobustvitError, OSError) as error:
            return LiveNumbers(problem=str(error))
