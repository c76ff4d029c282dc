"""How far a run is: a bar on a terminal, a line that renews itself in a notebook, nothing elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_NOTEBOOK_SECONDS = 0.5  # between two lines of a notebook


class Progress(Protocol):
    """Called as work goes on: what is done, and what there is to do, in one unit, and what is being computed.

    A run counts in passes through the models, weighted by their size, so that the share of it that is done is a share of its time.
    """

    def __call__(self, done: int, total: int, what: str) -> None:
        """Shows it."""
        ...


@contextmanager
def shown_or_default(progress: Progress | Literal[False] | None) -> Iterator[Progress | None]:
    """The callback that is given, none for False, or the default of where this is: a bar on a terminal, a line in a notebook."""
    if progress is not None:
        yield progress or None
        return
    from rich.console import Console

    console = Console(stderr=True, emoji=False)
    if console.is_jupyter or _in_notebook():
        yield _NotebookLine()
    elif console.is_terminal:
        with terminal_bar(console, percent=True) as made:
            yield made
    else:
        yield None


@contextmanager
def terminal_bar(console: Console, *, percent: bool = False) -> Iterator[Progress]:
    """A progress bar on a terminal, which goes away when it is done. percent: in place of numbers, which are then no counts."""
    from rich.markup import escape as plain
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:40.40}"),
        BarColumn(),
        TaskProgressColumn() if percent else MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task("loading")
        yield lambda done, total, what: drawn.update(task, completed=done, total=total, description=plain(what))


def _in_notebook() -> bool:
    """Whether this is a cell of a notebook, whose kernel shows what is displayed."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class _NotebookLine:
    """One line of a notebook's output, renewed as rows are done."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.last = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self.last < _NOTEBOOK_SECONDS and done < total:
            return
        self.last = now
        shown = importlib.import_module("IPython.display")
        line = shown.HTML(f'<progress value="{done}" max="{max(total, 1)}"></progress> {done / max(total, 1):.0%} · {escape(what)}')
        if self.handle is None:
            self.handle = shown.display(line, display_id=True)
        else:
            self.handle.update(line)
