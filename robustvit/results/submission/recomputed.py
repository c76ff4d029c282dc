"""Whether an entry that was received is what its store gives: rows, facts and every number are made again and compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from robustvit.errors import StoreError, few
from robustvit.records.store import Store
from robustvit.results.submission.entry import BOARD, FORMAT, Submission, submission_of

_SAID = ("robustvit", "suite", "card", "data", "cells", "commands", "told", "environments", "headlines")


def confirm(entry: Submission, store: Store | Path | str, tell: Callable[[int, int], object] = lambda *_: None) -> None:
    """Makes the entry again from a store, of which it is verified first. Raises StoreError with what differs, and as `submission_of`.

    How the store is packed does not matter: an entry has digests of rows. One of format 1 has those of files, and is refused.
    """
    if entry.facts["format"] != FORMAT:
        raise StoreError(
            f"the entry of {entry.name} is of format {entry.facts['format']}, with digests of files and not of rows; ask for one that "
            "this version writes."
        )
    made = submission_of(store, suite=str(entry.facts["suite"]["name"]), model=str(entry.facts["model"]), tell=tell)
    found = list(_differences(entry, made))
    if found:
        raise StoreError(f"the entry of {entry.name} is not what its store gives: {few(found)}.")


def _differences(given: Submission, made: Submission) -> Iterator[str]:
    lines = itertools.zip_longest(given.board.splitlines(), made.board.splitlines(), fillvalue="")
    line = next((number for number, (a, b) in enumerate(lines, start=1) if a != b), None)
    if line is not None:
        yield f"line {line} of {BOARD} is another"
    old, new = given.facts["records"], made.facts["records"]
    for cell in sorted({*old, *new}):
        if old.get(cell) != new.get(cell):
            yield f"cell {cell} " + (
                "is not in the store" if cell not in new else "is not in the entry" if cell not in old else "has other rows"
            )
    for key in _SAID:
        if json.dumps(given.facts.get(key), sort_keys=True) != json.dumps(made.facts[key], sort_keys=True):
            yield f"'{key}' is another"
