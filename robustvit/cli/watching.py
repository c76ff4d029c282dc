"""status: how far a run is, who computes it, and how long it still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustvit.cli.exit_codes import CELLS_FAILED, AsJson, ModelNames, StorePath, SuiteName, one_format
from robustvit.cli.printing import err, escape, out, print_json
from robustvit.errors import BadParameter, UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from robustvit.records.status.store_status import RunStatus

_EVERY = 2.0  # seconds
_SHORTEST, _LONGEST = 0.1, 86400.0
_REST = 4.0  # times as long as a status took, until the next at least
_FORMATS = ("table", "json")


def status(
    place: Annotated[Path | None, typer.Argument(metavar="[STORE]", help="The directory of Records, in place of --store.")] = None,
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="SECONDS", help="Again after so many seconds until the run is over.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One line, also on a terminal.")] = False,
    format: Annotated[str, typer.Option("--format", "-f", help="table or json.")] = "table",
    as_json: AsJson = False,
) -> None:
    """How far the newest run of a store is: cells, rows, rate, time left, failures, workers by host.

    On a terminal it renews itself until the run is over, or Ctrl-C; elsewhere, and with --once, it is one line. The store is only read.
    Exit code 3 where cells failed.

    Example: robustvit status results
    """
    from robustvit.records.status.store_status import status as read
    from robustvit.spec.given import check_path

    _refuse_wrong(watch, once, format)
    root = check_path(store if place is None else place, "STORE" if place is not None else "--store")
    json = one_format(as_json, format) == "json"

    def now() -> RunStatus:
        return read(root, suite=suite, models=model)

    if out.is_interactive and sys.stdout.isatty() and not once and not json:  # colours may be forced where there is no terminal
        ended = _live(now, _EVERY if watch is None else watch)
    else:
        show = _print_data if json else _print_line
        ended = _repeated(now, show, watch)
    if ended is not None and ended.failures:
        raise typer.Exit(CELLS_FAILED)


def _refuse_wrong(watch: float | None, once: bool, format: str) -> None:
    """Raises UsageError for options that do not go together or take no such value."""
    if once and watch is not None:
        raise UsageError("--once and --watch are two ways; give one of them.")
    if watch is not None and not _SHORTEST <= watch <= _LONGEST:
        raise BadParameter(f"--watch is {watch}; it takes seconds from {_SHORTEST} to {_LONGEST:,.0f}.")
    if format not in _FORMATS:
        raise UsageError(f"--format has no {format!r}; it takes {' or '.join(_FORMATS)}.")


def _repeated(read: Callable[[], RunStatus], show: Callable[[RunStatus], None], every: float | None) -> RunStatus | None:
    """Shows the status, and again after so many seconds until the run is over; None where somebody ended it before."""
    from robustvit.cli.serving.ending import until_ended

    if every is None:
        show(found := read())
        return found
    with until_ended() as wait:
        while True:
            began = time.monotonic()
            show(found := read())
            if found.over:
                return found
            if wait(max(every, _REST * (time.monotonic() - began))):
                return None


def _live(read: Callable[[], RunStatus], every: float) -> RunStatus | None:
    """Shows the status in its place on the terminal."""
    from rich.live import Live

    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        return _repeated(read, lambda found: live.update(_block(found), refresh=True), every)


def _block(found: RunStatus) -> Group:
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    from robustvit.cli.commands.status_text import status_lines

    title, *rest = (Text.from_markup(escape(line), overflow="fold") for line in status_lines(found))
    title.stylize("bold")
    bar = [Padding(ProgressBar(total=max(1, found.asked), completed=found.rows), 0)] if found.suite else []  # which ends its line
    return Group(title, *bar, *(line for line in rest if line))


def _print_line(found: RunStatus) -> None:
    """The status in a line; failures and damage to the standard error."""
    from robustvit.cli.commands.status_text import failure_lines, status_line

    out.print(escape(status_line(found)), highlight=False, soft_wrap=True)
    for line in (*failure_lines(found), *filter(None, [found.damage])):
        err.print(escape(line), highlight=False, soft_wrap=True)


def _print_data(found: RunStatus) -> None:
    from robustvit.cli.commands.status_text import status_data

    print_json(status_data(found))
    sys.stdout.flush()  # the next comes after a while
