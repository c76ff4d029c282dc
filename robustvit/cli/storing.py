"""store: what keeps a directory of Records in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustvit.cli.configuration import ConfiguredCommand
from robustvit.cli.exit_codes import CELLS_FAILED, AsJson, JsonFile, ModelNames, Quiet, StorePath, SuiteName, read_store
from robustvit.cli.printing import err, escape, out, place_name, print_json

if TYPE_CHECKING:
    from robustvit.records.upkeep.sizes import StoreSize

store_app = typer.Typer(
    name="store", help="Keeps a directory of Records in order: compact, verify, merge, gc, stats, export.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
_SHOWN = 20  # lines of what stays as it is, or is removed; --json has all


class _StoreCommand(ConfiguredCommand):
    of = "store "


@store_app.command(cls=_StoreCommand)
def compact(
    store: StorePath = Path("results"), suite: SuiteName = None, model: ModelNames = None, as_json: AsJson = False, output: JsonFile = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Turn finished cells into two large files each: rows, and their lists (top5, logits).

    Rows, order and every table stay the same to the bit; small files are removed once the large ones have been read back and compared.
    Killed, the same command goes on. A store with compacted cells needs this version of robustvit or a later one.

    Example: robustvit store compact --store results
    """
    from robustvit.records.compacted.compaction import compact as compacted
    from robustvit.records.store import Store
    from robustvit.spec.grouping import grouped

    opened = Store(store)
    tables = opened.tables.size()
    with _progress(quiet, "compacting") as tell:
        found = compacted(opened, suite, model, lambda cell, count: tell(count))
    counts = Counter(one.state for one in found)
    rows = sum(one.rows for one in found)
    before, after = tables + sum(one.size[0] for one in found), opened.tables.size() + sum(one.size[1] for one in found)
    if as_json or output is not None:
        print_json([vars(one) for one in found], output)
    elif not quiet:
        for state in ("unfinished", "computed now", "damaged", "left"):
            alike = grouped((one.reason, one.cell) for one in found if one.state == state)
            _lines([f"{state}: {cells[0]}{_others(cells)}: {reason}" for reason, cells in alike.items()])
        files = [sum(one.files[which] for one in found) for which in (0, 1)]
        stay = len(found) - counts["compacted"] - counts["already"]
        _say(f"{counts['compacted']:,} cells compacted, {counts['already']:,} were, {stay:,} stay as they are.")
        each = f", {before / rows:.1f} → {after / rows:.1f} bytes a row" if rows else ""
        _say(f"{files[0]:,} files → {files[1]:,}; {_bytes(before)} → {_bytes(after)}{each}.")
    if counts["damaged"] or counts["left"]:
        raise typer.Exit(1)


@store_app.command(cls=_StoreCommand)
def verify(store: StorePath = Path("results"), as_json: AsJson = False, output: JsonFile = None, quiet: Quiet = False) -> None:
    """Read every file whole: checksums, schemas, and every row of finished runs.

    One line for each fault, and exit code 1 where there is one. Nothing is changed: a run sets aside what is damaged and computes it anew.

    Example: robustvit store verify --store results
    """
    from robustvit.records.store import Store
    from robustvit.records.upkeep.verification import verify as verified

    with _progress(quiet, "verifying") as tell:
        found = verified(Store(store), lambda done, count: tell(count))
    if as_json or output is not None:
        print_json({"cells": found.cells, "files": found.files, "faults": [one._asdict() for one in found.faults]}, output)
    else:
        for fault in found.faults:
            _say(f"{fault.kind}: {fault.place}: {fault.what}")
        if not quiet:
            count = len(found.faults)
            _say(f"{found.files:,} files and {found.cells:,} cells of {place_name(store)}: {count or 'no'} fault{'s' * (count != 1)}.")
    if found.faults:
        raise typer.Exit(1)


@store_app.command(cls=_StoreCommand)
def merge(
    stores: Annotated[list[Path], typer.Argument(help="Stores whose cells are merged.")],
    into: Annotated[Path, typer.Option("--into", help="The store that gets them; made where there is none.")],
    as_json: AsJson = False, output: JsonFile = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Copy the cells of several stores into one.

    Every source is verified first. Where two hold other bits of the same rows of a cell, or other images of the same data set, that is told
    and nothing is written. The sources stay as they are.

    Example: robustvit store merge results-a results-b --into results
    """
    from robustvit.records.upkeep.merging import merge as merged

    done = merged(stores, into)
    if as_json or output is not None:
        print_json(vars(done), output)
    elif not quiet:
        _lines([f"kept: {name} is another in a source; the one that was there first stays" for name in done.kept])
        rest = f"; {done.unneeded:,} hold rows that are there in other files" if done.unneeded else ""
        _say(
            f"{done.cells:,} cells, {done.files:,} files and {_bytes(done.size)} came to {place_name(into)}; {done.present:,} files were "
            f"there already{rest}."
        )


@store_app.command(cls=_StoreCommand)
def gc(
    store: StorePath = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be removed, and remove nothing.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Also the images that attacks left; a run that has use for them makes them anew.")
    ] = False,
    as_json: AsJson = False, output: JsonFile = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Remove what nothing in a store names: cells of no manifest, remainders, and what was set aside as damaged.

    Files that robustvit does not know are left alone. Nothing is removed while a process computes, or where a manifest is damaged.

    Example: robustvit store gc --dry-run
    """
    from robustvit.records.store import Store
    from robustvit.records.upkeep.garbage import collect, garbage

    found = garbage(Store(store), images=images) if dry_run else collect(Store(store), images=images)
    size = sum(one.size for one in found)
    if as_json or output is not None:
        print_json({"removed": not dry_run, "bytes": size, "files": [one._asdict() for one in found]}, output)
    elif not quiet:
        _lines([f"{one.place}: {one.why}, {_bytes(one.size)}" for one in found])
        _say(f"{len(found):,} files, {_bytes(size)}, {'would be' if dry_run else 'were'} removed.")


@store_app.command(cls=_StoreCommand)
def stats(
    store: StorePath = Path("results"), suite: SuiteName = None, model: ModelNames = None, as_json: AsJson = False, output: JsonFile = None,
) -> None:  # fmt: skip
    """Cells, rows, files, bytes, and the bytes of a row by column.

    What cannot be opened is named, with exit code 3.

    Example: robustvit store stats --store results
    """
    from robustvit.records.upkeep.sizes import store_size

    with read_store(store) as opened:
        size = store_size(opened, suite, model)
        if as_json or output is not None:
            page = {key: value for key, value in vars(size).items() if key != "columns"}
            columns = {one.name: {"bytes": one.size, "rows": one.rows, "bytes_a_row": one.each} for one in size.columns}
            print_json({**page, "bytes_a_row": size.each, "bytes_a_row_judged": size.judged, "columns": columns}, output)
        else:
            _print_size(size)
    if size.unreadable:
        raise typer.Exit(CELLS_FAILED)


def _print_size(size: StoreSize) -> None:
    import pandas as pd

    from robustvit.cli.printing import print_frame

    if size.columns:
        table = [(one.name, f"{one.rows:,}", f"{one.size:,}", f"{one.each:.2f}") for one in size.columns]
        print_frame(pd.DataFrame(table, columns=["column", "rows", "bytes", "bytes a row"]), "", ("rows", "bytes", "bytes a row"))
    _say(f"{size.rows:,} rows of {size.cells:,} cells ({size.compacted:,} compacted) in {size.files:,} files: {_bytes(size.size)}, "
         f"{size.each:.1f} bytes a row, {size.judged:.1f} without top5 and logits.")  # fmt: skip
    _lines([f"{name}: {_bytes(value)}" for name, value in size.other.items()])
    _lines([f"damaged: {name} cannot be opened" for name in size.unreadable])


@store_app.command(cls=_StoreCommand)
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder: a new or an empty one.")],
    store: StorePath = Path("results"), suite: SuiteName = None, model: ModelNames = None,
    format: Annotated[str, typer.Option("--format", "-f", help="hf: for the Hugging Face hub; duckdb: a file with views.")] = "hf",
    as_json: AsJson = False, output: JsonFile = None,
) -> None:  # fmt: skip
    """Write every requested row as a data set for other programs.

    hf: Parquet files and a card, which datasets.load_dataset(FOLDER) reads. duckdb: records.duckdb with the views cells, rows and
    questions. Where a file of these rows is damaged, nothing is written.

    Example: robustvit store export --to records -f duckdb
    """
    from robustvit.results.data_sets.store_export import export_store

    with read_store(store) as opened:
        made = export_store(opened, to, format, suite=suite, models=model)
        if as_json or output is not None:
            print_json({"format": format, "path": str(made)}, output)
        else:
            err.print(escape(f"Wrote {made}"), highlight=False, soft_wrap=True)


@contextmanager
def _progress(quiet: bool, what: str) -> Iterator[Callable[[int], None]]:
    """Called with how many cells there are after each, shows how many are done on a terminal."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += 1
        if err.is_terminal and not quiet:
            err.print(f"{what} {done:,} of {count:,} cells", end="\r", highlight=False)

    yield tell
    if done and err.is_terminal and not quiet:
        err.print(" " * 60, end="\r")


def _lines(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        _say(line)
    if len(lines) > _SHOWN:
        _say(f"… and {len(lines) - _SHOWN:,} more; --json has all.")


def _others(cells: list[str]) -> str:
    return f" and {len(cells) - 1:,} more cell{'s' * (len(cells) > 2)}" if len(cells) > 1 else ""


def _say(line: str) -> None:
    out.print(escape(line), highlight=False, soft_wrap=True)


def _bytes(size: float) -> str:
    """`512 bytes`, `1.5 MB`: thousands are 1,000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
