"""Reads the human responses of model-vs-human from the tables of the authors' repository."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.data.annotations.model_vs_human_names import Stimulus, parse_session, plain_condition
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataUnreadable, few

_COLUMNS = ("subj", "object_response", "category", "condition", "imagename")  # of a table; the release writes some in capitals
_PERSON = "subject-"
_NO_RESPONSE = "na"  # none in time, which counts as wrong


class _Row(NamedTuple):
    """One trial: its file and line, the person, the stimulus as the table describes it, and the response."""

    place: str
    person: str
    stimulus: Stimulus
    response: str


def responses(
    place: Path, stimuli: str, shown: Sequence[Stimulus], conditions: Sequence[str], categories: Sequence[str]
) -> list[list[int]] | None:
    """For each image, in order, the category that each person chose (−1: no response in time); None where there are no tables.

    place: holds the sets; `raw-data/<stimuli>/<stimuli>_subject-NN_session_N.csv` lie in it or beside it. People are in the order of their
    numbers. Rows on images that are not here do not count; tables of models, which the authors' code writes beside, are not read.
    Raises DataUnreadable, with counts, for responses that are no category, a person's two responses to one image, images without a response
    of a person, truncated rows, and rows that give another category or condition of an image than its own name does.
    """
    tables = [
        found
        for above in (place, place.absolute().parent)
        for found in sorted((above / "raw-data" / stimuli).glob(f"{stimuli}_{_PERSON}*.csv"))
    ]
    tables = [table for table in tables if table.parent == tables[0].parent]
    if not tables:
        return None
    rows = [row for table in tables for row in _read(table)]
    where = f"data 'model-vs-human': in {tables[0].parent}"
    _refuse(where, f"are not of people ('{_PERSON}…')", rows, [not row.person.startswith(_PERSON) for row in rows])
    _refuse(where, "have responses that are no category", rows, [row.response not in (*categories, _NO_RESPONSE) for row in rows])
    own = {one.image: (one.category, condition) for one, condition in zip(shown, conditions, strict=True)}
    here = [row for row in rows if row.stimulus.image in own]
    _refuse(where, "give another category or condition than the image", here, [not _agrees(row, own) for row in here])
    given = _by_person(where, here)
    _refuse_holes(where, given, shown)
    index = {name: i for i, name in enumerate(categories)} | {_NO_RESPONSE: -1}
    return [[index[given[person][one.image]] for person in sorted(given)] for one in shown]


def _read(table: Path) -> Iterator[_Row]:
    try:
        rows = csv.DictReader(io.StringIO(read_text(table), newline=""))
        lines = [{name.lower(): value for name, value in line.items() if name} for line in rows]
    except csv.Error as error:
        raise DataUnreadable(f"{table} cannot be read: {error}.") from error
    lacking = [name for name in _COLUMNS if lines and name not in lines[0]]
    if lacking or not lines:
        raise DataUnreadable(f"{table} has {f'no column {few(lacking)}' if lacking else 'no rows'}; it takes {', '.join(_COLUMNS)}.")
    names = [parse_session(line["imagename"] or "") for line in lines]
    _refuse_lines(table, "are truncated", lines, [any(line[name] is None for name in _COLUMNS) for line in lines])
    _refuse_lines(table, "have an imagename that is not of the release's form", lines, [named is None for named in names])
    for number, (line, named) in enumerate(zip(lines, names, strict=True), start=2):
        if named is not None:
            stimulus = Stimulus(named.image, line["category"], plain_condition(line["condition"]))
            yield _Row(f"{table.name}:{number}", line["subj"], stimulus, line["object_response"])


def _refuse_lines(table: Path, what: str, lines: Sequence[object], bad: Sequence[bool]) -> None:
    found = [str(number) for number, is_bad in enumerate(bad, start=2) if is_bad]
    if found:
        raise DataUnreadable(f"{table}: {len(found)} of {len(lines)} rows {what}: line {few(found)}.")


def _agrees(row: _Row, own: Mapping[str, tuple[str, str]]) -> bool:
    category, condition = own[row.stimulus.image]
    return row.stimulus.category == category and condition in ("", row.stimulus.condition)


def _by_person(where: str, rows: Sequence[_Row]) -> dict[str, dict[str, str]]:
    given: dict[str, dict[str, str]] = {}
    twice = []
    for row in rows:
        of_person = given.setdefault(row.person, {})
        twice.append(row.stimulus.image in of_person)
        of_person[row.stimulus.image] = row.response
    _refuse(where, "repeat an image that the same person has responded to already", rows, twice)
    return given


def _refuse(where: str, what: str, rows: Sequence[_Row], bad: Sequence[bool]) -> None:
    found = [row.place for row, is_bad in zip(rows, bad, strict=True) if is_bad]
    if found:
        raise DataUnreadable(f"{where}, {len(found)} of {len(rows)} rows {what}: {few(found)}.")


def _refuse_holes(where: str, given: Mapping[str, Mapping[str, str]], shown: Sequence[Stimulus]) -> None:
    if not given:
        raise DataUnreadable(f"{where}, no row is about any of the {len(shown)} images here, such as {shown[0].image}.")
    holes = {person: [one.image for one in shown if one.image not in images] for person, images in sorted(given.items())}
    short = [f"{person} {len(images)} ({images[0]}, …)" for person, images in holes.items() if images]
    if short:
        raise DataUnreadable(
            f"{where}, {len(short)} of {len(given)} people lack responses to some of the {len(shown)} images: {few(short)}."
        )
