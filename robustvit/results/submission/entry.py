"""The entry of one model and suite for a board: its facts as JSON, and its leaderboard as CSV."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.errors import StoreDamaged, StoreFull, UsageError, few
from robustvit.records.cells import StoredCell, open_store, stored_cells
from robustvit.records.disk import content_digest, json_bytes, read_json
from robustvit.records.manifest import ModelFacts
from robustvit.records.store import Store
from robustvit.records.upkeep.places import refuse_inside_store
from robustvit.results.exports.model_index import public_command
from robustvit.results.gradient_masking import worst_verdict
from robustvit.results.leaderboard import Leaderboard, build_leaderboard, read_csv
from robustvit.results.pages import headline_in_words, models_of
from robustvit.results.submission.fitness import refuse_unfit
from robustvit.results.submission.row_digests import cell_digest
from robustvit.results.summary import headline_numbers
from robustvit.results.table_formats import csv_text, save_file
from robustvit.spec.given import check_path
from robustvit.version import __version__

FACTS, BOARD = "entry.json", "board.csv"
FORMAT = 2
_READ = {1: "files", 2: "records"}  # formats, and what each calls the digests of the Records
_CARD = ("weights_kind", "fingerprint", "source", "url", "licence", "parameters", "macs", "outputs")


@dataclass(frozen=True)
class Submission:
    """facts: what `entry.json` holds; board: the text of `board.csv`, a leaderboard in tidy form."""

    facts: dict[str, Any]
    board: str

    def rows(self) -> pd.DataFrame:
        """The rows of the leaderboard."""
        return read_csv(io.StringIO(self.board))

    @property
    def name(self) -> str:
        """`MODEL on SUITE`."""
        return f"{self.facts['model']} on {self.facts['suite']['name']}"


def submission_of(
    store: Store | Path | str, *, suite: str | None = None, model: str | None = None, tell: Callable[[int, int], object] = lambda *_: None
) -> Submission:
    """What one model on one suite of a store submits, once the whole store is verified. Nothing in it is changed.

    suite, model: needed where the store has several. Raises UsageError where it has several and none is chosen, and StoreError for one that
    is not there and for Records that no board takes (see `refuse_unfit`).
    """
    place = open_store(store)
    cells = _of_one(stored_cells(place, suite, None if model is None else [model]))
    name, label = cells[0].question.suite, model or _label(cells)
    board = build_leaderboard(place, suite=name, models=[model or cells[0].question.model])
    refuse_unfit(place, cells, board.rows, tell)
    text = csv_text(board.rows.assign(repro=board.rows["repro"].map(public_command)), "%.10g")
    card = next(iter(board.cards.values()), ModelFacts())
    facts = {
        "format": FORMAT, "robustvit": __version__, "model": label, "suite": _suite(place, name),
        "card": {key: getattr(card, key) for key in _CARD}, "data": _data(cells), "cells": len({one.question.cell for one in cells}),
        "commands": list(dict.fromkeys(map(public_command, board.rows["repro"]))), "told": _told(board, cells),
        "headlines": list(headlines(read_csv(io.StringIO(text)))), "environments": _environments(place, board),
        "records": _records(place, cells), "board": _digest(text),
    }  # fmt: skip
    return Submission(facts, text)


def headlines(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The numbers of a summary, one for each: of every model on every suite and data set of a leaderboard's rows."""
    for (suite, data), part in rows.groupby(["suite", "base"], sort=False):
        for model, own in models_of(part):
            for one in headline_numbers(own):
                facts = {key: None if value != value else value for key, value in one.facts.items()}  # JSON has no NaN
                facts = {"number": headline_in_words(one), **facts, "unit": str(one.rows["unit"].iloc[0])}
                yield {"suite": suite, "data": data, "model": model, **facts, "higher_is_better": one.higher_is_better}


def write_submission(entry: Submission, folder: Path) -> list[Path]:
    """Writes an entry into a folder, a new one, an empty one or that of an earlier entry; returns its files.

    Raises UsageError for a folder that holds anything else, or that is inside a store; StoreFull, leaving no new folder, where it cannot be
    written.
    """
    place = check_path(folder, "the folder of the entry")
    refuse_inside_store(place, "--output")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file; an entry is written into a folder.")
    others = sorted(path.name for path in place.iterdir() if path.name not in (FACTS, BOARD)) if place.is_dir() else []
    if others:
        raise UsageError(
            f"the folder {place} holds {few(others)}; an entry is written into a new folder, an empty one or an earlier entry's."
        )
    page, new = {**entry.facts, "checksum": _checksum(entry.facts)}, not place.exists()
    try:
        return [save_file(entry.board, place / BOARD), save_file(json_bytes(page) + b"\n", place / FACTS)]
    except StoreFull:
        if new:
            shutil.rmtree(place, ignore_errors=True)
        raise


def read_submission(folder: Path | str) -> Submission:
    """The entry in a folder, checked: its checksums, and that its headline numbers are those of its CSV.

    Raises StoreDamaged where a byte of it was changed, or where it is no entry.
    """
    place = check_path(folder, "the entry")
    if not (place / FACTS).is_file():
        raise UsageError(f"{place} is no entry for a board: it has no {FACTS}. `robustvit submit STORE -o {place}` writes one.")
    facts = _facts(place / FACTS)
    try:
        text = (place / BOARD).read_bytes().decode()
        if facts["format"] not in _READ:
            raise StoreDamaged(f"{place / FACTS} has format {facts['format']!r}; this robustvit reads {' and '.join(map(str, _READ))}.")
        entry = Submission(facts, text)
        _ = entry.name, facts[_READ[facts["format"]]].items(), facts["told"]["gradients"]
        if facts["board"] != _digest(text):
            raise StoreDamaged(f"{place / BOARD} is not the file that {FACTS} names: a byte of it was changed.")
        made = list(headlines(entry.rows()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreDamaged(f"{place} is no entry for a board ({type(error).__name__}: {error}).") from error
    if facts["robustvit"] == __version__ and (other := _first_other(facts["headlines"], made)):
        raise StoreDamaged(f"{place / FACTS}: the headline number {other} is not that of {BOARD}.")
    return entry


def _facts(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except StoreDamaged as error:
        what, _, _ = str(error).partition(" Restore it")  # which is about files of a store
        raise StoreDamaged(f"{what} Ask whoever sent it for the entry again.") from error


def _first_other(given: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> str:
    """The first headline number that is another; "" where there is none. A number that is none (NaN) is equal to itself."""
    texts = [[json.dumps(one, sort_keys=True) for one in some] for some in (given, made)]
    at = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), None)
    if at is None:
        return "" if len(given) == len(made) else f"list ({len(given)} and {len(made)})"
    return f"'{made[at]['number']}' of {made[at]['model']}"


def _of_one(cells: list[StoredCell]) -> list[StoredCell]:
    """The cells, where they are of one model on one suite. Raises UsageError with the option that chooses."""
    for what, option in (("suite", "--suite"), ("model", "--model")):
        names = list(dict.fromkeys(str(getattr(one.question, what)) for one in cells))
        if len(names) > 1:
            raise UsageError(f"an entry is of one {what}, and the store has {few(names)}; choose with {option}.")
        if not names:
            raise UsageError("the store has no runs, and so nothing to submit; `robustvit run` makes them.")
    return cells


def _label(cells: Sequence[StoredCell]) -> str:
    """The model, with its transforms where all cells have the same."""
    steps = {one.question.transforms for one in cells}
    model = cells[0].question.model
    return f"{model}+{next(iter(steps))}" if len(steps) == 1 and steps != {""} else model


def _suite(store: Store, name: str) -> dict[str, Any]:
    facts = next(one.suite for one in reversed(store.manifests()) if one.suite.name == name)
    return {key: getattr(facts, key) for key in ("name", "version", "title", "paper", "url")}


def _data(cells: Sequence[StoredCell]) -> list[dict[str, Any]]:
    """Each data set with how many of its samples were requested, at most, and how many it has."""
    found: dict[str, dict[str, Any]] = {}
    for one in cells:
        facts, asked, fingerprint = one.data, one.question.asked, one.question.data_fingerprint
        row = found.setdefault(fingerprint, {"label": facts.label, "fingerprint": fingerprint, "n": facts.n, "asked": 0})
        row["asked"] = max(row["asked"], asked)
        row["whole"] = row["asked"] >= (facts.expected or facts.n)
    return list(found.values())


def _told(board: Leaderboard, cells: Sequence[StoredCell]) -> dict[str, Any]:
    """What a reader of the numbers must know: the verdict on gradients, outputs that are no logits, marks, and cells without a value."""
    rows = board.rows
    marked = rows[(rows["status"] == "complete") & (rows["reason"] != "")]
    hollow = rows[rows["status"].isin(("failed", "undefined")) & (rows["cell"] != "")].drop_duplicates(["cell", "reason"])

    def told(part: pd.DataFrame) -> list[str]:
        return list(dict.fromkeys(f"{row.scenario} {row.severity}".strip() + f": {row.reason}" for row in part.itertuples()))

    return {
        "gradients": worst_verdict(rows["gradients"]) or "no attack",
        "outputs": next((one.outputs for one in cells if one.outputs), ""),
        "marked": told(marked),
        "without value": told(hollow),
    }


def _environments(store: Store, board: Leaderboard) -> dict[str, Any]:
    """The versions of every package that the rows were computed with."""
    names = sorted({name for text in board.rows["environment"] for name in str(text).split(", ") if name})
    return {name: store.environment(name).get("versions", {}) for name in names}


def _records(store: Store, cells: Sequence[StoredCell]) -> dict[str, str]:
    """The digest of the rows of each cell, as many as were requested of it."""
    asked: dict[str, int] = {}
    for one in cells:
        asked[one.question.cell] = max(one.question.asked, asked.get(one.question.cell, 0))
    return {cell: cell_digest(store, cell, count) for cell, count in sorted(asked.items())}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(facts: dict[str, Any]) -> str:
    """As `read_json` compares it."""
    return content_digest(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
