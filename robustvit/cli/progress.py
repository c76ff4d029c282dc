"""Progress of long commands: a bar on a terminal, lines in a log."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from robustvit.cli.printing import err, escape

if TYPE_CHECKING:
    from robustvit.evaluation.outcome.progress import Progress


@contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """Leaves out the warnings of the block where a command is to be quiet."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def progress_shown(quiet: bool, unit: str = "rows") -> Iterator[Progress | None]:
    """Yields a callback (done, total, what): a progress bar on a terminal, a line every ten seconds elsewhere, None when quiet.

    unit: what is counted; % for shares of work.
    """
    if quiet:
        yield None
    elif err.is_terminal:
        from robustvit.evaluation.outcome.progress import terminal_bar

        with terminal_bar(err, percent=unit == "%") as progress:
            yield progress
    else:
        yield _Lines(unit)


class _Lines:
    """Prints progress for logs: a line every ten seconds."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.last = time.monotonic() - 8.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self.last >= 10.0:
            self.last = now
            share = f"{done / max(total, 1):.0%}" if self.unit == "%" else f"{done:,}/{total:,} {self.unit}"
            err.print(f"{share} · {escape(what)}", highlight=False, soft_wrap=True)
