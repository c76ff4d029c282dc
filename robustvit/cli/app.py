"""The commands of `robustvit`, each a thin wrapper around a function of the library.

Exit codes: 0 success, 1 something could not be done, 2 the command is wrong, 3 some cells failed, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.markup import escape

from robustvit.cli.exit_codes import INTERRUPTED
from robustvit.cli.generating import corrupt, new, train
from robustvit.cli.listing import check, data_, list_
from robustvit.cli.printing import err, out
from robustvit.cli.results import compare, diff, factors, leaderboard, report
from robustvit.cli.running import plan, run
from robustvit.errors import RobustvitError

app = typer.Typer(
    name="robustvit",
    help="How robust is a vision transformer? A suite file, one command, a leaderboard with intervals.",
    epilog="Start with robustvit run: the bundled demo model on real handwritten digits, in about a minute.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": lambda token: token.replace("_", "-")},
)

for function, name in (
    (run, "run"), (plan, "plan"), (leaderboard, "leaderboard"), (factors, "factors"), (report, "report"), (compare, "compare"),
    (diff, "diff"), (list_, "list"), (check, "check"), (new, "new"), (data_, "data"), (corrupt, "corrupt"), (train, "train"),
):  # fmt: skip
    app.command(name)(function)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    if version:
        from robustvit.version import __version__

        out.print(__version__, highlight=False)
        raise typer.Exit()
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(message)s")


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and an exit code, without a traceback."""
    try:
        app()
    except RobustvitError as error:
        err.print(f"[red]robustvit:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
