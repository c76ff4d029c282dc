"""The commands of `robustvit`, each a thin wrapper around a function of the library.

Exit codes: 0 success, 1 something could not be done, 2 the command is wrong, 3 some cells failed or are damaged, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from robustvit.cli.cards import card
from robustvit.cli.comparing import compare, diff, transfer
from robustvit.cli.configuration import ConfiguredCommand, with_configured
from robustvit.cli.exit_codes import INTERRUPTED
from robustvit.cli.generating import corrupt, new, train
from robustvit.cli.listing import check, data_, list_
from robustvit.cli.printing import err, escape, out
from robustvit.cli.reporting import figure, report
from robustvit.cli.results import factors, leaderboard
from robustvit.cli.running import plan, run
from robustvit.cli.storing import store_app
from robustvit.cli.submitting import submit
from robustvit.cli.viewing import view
from robustvit.cli.watching import status
from robustvit.errors import RobustvitError, StoreFull, UsageError, whole_install_needed

_LONGEST_WORD = 4096  # characters; a path has no more

app = typer.Typer(
    name="robustvit",
    help="How robust is a vision transformer? A suite file, one command, a leaderboard with intervals.",
    epilog="Start with robustvit run: the bundled demo model on real handwritten digits, in about a minute.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)

for function, name in (
    (run, "run"), (plan, "plan"), (leaderboard, "leaderboard"), (factors, "factors"), (report, "report"),
    (figure, "figure"), (view, "view"), (status, "status"), (compare, "compare"),
    (transfer, "transfer"), (diff, "diff"), (card, "card"), (list_, "list"), (check, "check"), (new, "new"), (data_, "data"),
    (corrupt, "corrupt"), (train, "train"), (submit, "submit"),
):  # fmt: skip
    app.command(name, cls=ConfiguredCommand)(function)
app.add_typer(store_app, name="store")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", envvar="ROBUSTVIT_VERBOSE", help="Log more.")] = False,
) -> None:
    if version:
        from robustvit.version import __version__

        out.print(__version__, highlight=False)
        raise typer.Exit()
    handler = logging.StreamHandler()
    handler.addFilter(_first_time())
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(message)s", handlers=[handler])


def _first_time() -> Callable[[logging.LogRecord], bool]:
    """A filter that lets every error pass once: a command that opens a store several times says once what is damaged there."""
    seen: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = text in seen
        seen.add(text)
        return record.levelno < logging.ERROR or not known

    return first


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and an exit code, without a traceback."""
    _open_closed_streams()
    sys.unraisablehook = _interrupt_again
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError):  # of a stream that cannot be flushed here
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character shows its number
    try:
        refuse_words(sys.argv[1:])
        if sys.argv[1:]:
            sys.argv[1:] = with_configured(sys.argv[1:], typer.main.get_command(app).commands)  # type: ignore[attr-defined]
        with _flushed(), whole_install_needed(_verb()):
            app()
    except RobustvitError as error:
        err.print(f"[red]robustvit:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)


def _verb() -> str:
    """The name of the command that was called."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "robustvit")


def _interrupt_again(dropped: sys.UnraisableHookArgs) -> None:
    """An interrupt that came where Python drops exceptions, in the callback of a weak reference, comes again a moment later."""
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(dropped)


def _open_closed_streams() -> None:
    """Puts the null device in the place of a standard stream that is closed, so that no file of a run gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  as long as the process


def refuse_words(words: Sequence[str]) -> None:
    """Raises UsageError for a word of a command that nothing can be called: endless, or with control characters."""
    for place, word in enumerate(words, 1):
        if len(word) > _LONGEST_WORD:
            raise UsageError(f"word {place} of the command has {len(word):,} characters ({word[:20]}…); it takes up to {_LONGEST_WORD:,}.")
        hidden = next((char for char in word if unicodedata.category(char) == "Cc"), None)
        if hidden is not None:
            raise UsageError(f"word {place} of the command has the control character {hidden!a}: {word[:60]!a}.")


@contextlib.contextmanager
def _flushed() -> Iterator[None]:
    """Raises StoreFull where the standard output takes no more; what is left of it is dropped."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file, not of a stream
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise StoreFull(f"the standard output cannot be written: {error.strerror}.") from error
