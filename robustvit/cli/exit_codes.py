"""Exit codes, and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustvit.errors import UsageError

if TYPE_CHECKING:
    from robustvit.records.store import Store

CELLS_FAILED = 3
INTERRUPTED = 130

StorePath = Annotated[Path, typer.Option("--store", help="The directory of Records.", envvar="ROBUSTVIT_STORE")]


def _stored_suite(given: str | None) -> str | None:
    """The name that a store knows the suite of `run --suite` by."""
    from robustvit.evaluation.images.kept_suite import stored_name

    return None if given is None else stored_name(given)


SuiteName = Annotated[
    str | None, typer.Option("--suite", "-s", help="Only this suite, by name or file as for run.", callback=_stored_suite)
]
ModelNames = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help='Only these models: LABEL, or "LABEL+tome(r=8)" for one of its pipelines; repeat for several.'),
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Import the module:function that a suite file names. Code runs: only where "
    "you trust the file.")]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def read_store(path: Path) -> Iterator[Store]:
    """A store to read from; exits with CELLS_FAILED after the block, where something in the store was damaged, told and left out."""
    from robustvit.records.store import Store

    store = Store(path)
    yield store
    exit_if_damaged(store)


def exit_if_damaged(store: Store) -> None:
    """Exits with CELLS_FAILED where something in a store was damaged, told and left out."""
    if store.reported:
        raise typer.Exit(CELLS_FAILED)


def named_file(path: Path | None) -> Path | None:
    """The file of an option. Raises UsageError for `-`, which elsewhere is the standard output."""
    if path is not None and str(path) == "-":
        raise UsageError("'-' is not the name of a file to write; give one, or leave the option out.")
    return path


def one_format(as_json: bool, format: str) -> str:
    """The format of a table, `json` with --json. Raises UsageError where --format names another."""
    if as_json and format not in ("table", "json"):
        raise UsageError(f"--json and --format {format} are two formats; give one of them.")
    return "json" if as_json else format


Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of printing.", callback=named_file)]
JsonFile = Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON here instead of printing.", callback=named_file)]


def no_foreign_bars(quiet: bool) -> bool:
    """Turns off the progress bars of libraries that are not imported yet, where a command is to be quiet."""
    if quiet:
        os.environ |= {name: os.environ.get(name, "1") for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")}
    return quiet


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors: no progress, no messages, no warnings.", callback=no_foreign_bars)
]
