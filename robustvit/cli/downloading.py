"""Fetches data sets for `robustvit data --download` and `robustvit run --download`: the licence first, then a bar on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from robustvit.cli.exit_codes import INTERRUPTED
from robustvit.cli.printing import err, escape

if TYPE_CHECKING:
    from robustvit.cli.run_options import RunOptions
    from robustvit.evaluation.downloads.http_file import Progress
    from robustvit.evaluation.downloads.pending import Pending


def download_named(address: str, data_dir: Path | None, *, quiet: bool) -> None:
    """Fetches the data set at an address, unless it is whole, and says what is there then."""
    from robustvit.cli.commands.fetching import pending_of
    from robustvit.evaluation.downloads.pending import open_fetched

    one = pending_of(address, data_dir)
    _fetch(one, quiet)
    data = open_fetched(one, data_dir)
    if not quiet:
        done = "fetched" if one.lacking else "there already, nothing is fetched"
        _print(f"{one.entry.name}: {done}. {len(data):,} images of {len(data.classes)} classes in {one.folder}.")


def download_for_run(options: RunOptions) -> None:
    """Fetches what the data sets of a run lack."""
    from robustvit.cli.commands.fetching import pending_of_run
    from robustvit.evaluation.images.kept_suite import named_suite

    suite = named_suite(options.suite, allow_code=options.allow_code)
    for one in pending_of_run(suite, options.data, options.settings.data_dir):
        _fetch(one, options.quiet or options.as_json)


def _fetch(one: Pending, quiet: bool) -> None:
    from robustvit.cli.commands.fetching import about_pending
    from robustvit.evaluation.downloads.download import fetch_pending

    if not one.lacking:
        return
    for line in about_pending(one):  # the licence is shown even where progress is not
        _print(line)
    try:
        with _bar(quiet) as progress:
            fetch_pending(one, progress, _print)
    except KeyboardInterrupt:
        err.print("\nInterrupted. What arrived is kept: the same command continues from there.")
        raise typer.Exit(INTERRUPTED) from None


def _print(line: str) -> None:
    err.print(escape(line), highlight=False, soft_wrap=True)


@contextmanager
def _bar(quiet: bool) -> Iterator[Progress | None]:
    """Yields a callback (bytes done, bytes in all, what): a progress bar on a terminal, else None."""
    if quiet or not err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:32.32}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=err, transient=True) as bar:
        tasks: dict[str, int] = {}

        def update(done: int, total: int, what: str) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)  # type: ignore[arg-type]
                tasks.clear()
                tasks[what] = bar.add_task(escape(what), total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield update
