"""submit: the entry of a model and a suite for a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustvit.cli.exit_codes import AsJson, Quiet, SuiteName, named_file
from robustvit.cli.printing import escape, out, place_name, print_json
from robustvit.errors import UsageError


def submit(
    store: Annotated[Path, typer.Argument(help="The directory of Records.", envvar="ROBUSTVIT_STORE")] = Path("results"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help='The model, where the store has several: LABEL, or "LABEL+tome(r=8)".')
    ] = None,
    suite: SuiteName = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder of the entry; default: entry.", callback=named_file)
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="An entry that was received: it is made again from the store, and compared.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The entry of one model and suite for a board: checks the Records, and writes facts and numbers.

    Every file of the store is verified; rows must be complete and of one version, and no foreign file may lie there. The entry is
    board.csv and entry.json, with headline numbers, intervals, what a reader must know, and the digests of the Records. Nothing in the
    store is changed.

    Example: robustvit submit results --model demo --suite quick -o entry
    """
    from robustvit.results.submission.entry import read_submission, submission_of, write_submission
    from robustvit.results.submission.recomputed import confirm

    if against is not None:
        if output is not None or model is not None or suite is not None:
            raise UsageError(
                "--against compares an entry with the store, and names model and suite; leave --output, --model and --suite out."
            )
        entry = read_submission(against)
        confirm(entry, store)
        numbers, cells = f"{len(entry.rows()):,} numbers", f"{len(entry.facts['records']):,} cells"
        done = f"{against} is what {place_name(store)} gives: {entry.name}, {numbers}, {cells}."
    else:
        entry = submission_of(store, suite=suite, model=model)
        place = output or Path("entry")
        write_submission(entry, place)
        done = f"Wrote {place}: {entry.name}, {len(entry.rows()):,} numbers of {entry.facts['cells']:,} cells."
    if as_json:
        print_json(entry.facts, None)
    elif not quiet:
        for line in (done, *_told(entry.facts)):
            out.print(escape(line), highlight=False, soft_wrap=True)


def _told(facts: dict[str, object]) -> list[str]:
    """What a reader of the entry will see beside its numbers."""
    data, told = facts["data"], facts["told"]
    assert isinstance(data, list)
    assert isinstance(told, dict)
    counts = ["all" if one["whole"] else f"{one['asked']:,} of" for one in data]
    lines = [f"{one['label']}: {count} {one['n']:,} samples" for one, count in zip(data, counts, strict=True)]
    lines += [f"gradients: {told['gradients']}"] + ([f"outputs: {told['outputs']}"] if told["outputs"] else [])
    return lines + [f"{name}: {line}" for name in ("marked", "without value") for line in told[name]]
