"""What people answered to the pictures of model-vs-human, from the tables of the authors' repository."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.data.annotations.model_vs_human_names import Seen, in_session, plain_condition
from robustvit.errors import DataUnreadable, few

_COLUMNS = ("subj", "object_response", "category", "condition", "imagename")  # of a table; the release writes some in capitals
_PERSON = "subject-"
_SILENT = "na"  # no answer in time, which is a wrong one


class _Row(NamedTuple):
    """One trial: where it stands, the person, the picture as its name tells it, and the answer."""

    place: str
    person: str
    seen: Seen
    answer: str


def answers(
    place: Path, stimuli: str, seen: Sequence[Seen], conditions: Sequence[str], categories: Sequence[str]
) -> list[list[int]] | None:
    """For each picture, in order, the category that each person answered (−1: none in time); None where no tables are there.

    place: holds the sets; `raw-data/<stimuli>/<stimuli>_subject-NN_session_N.csv` lie in it or beside it. People are in the order of their
    numbers. Rows on pictures that are not here do not count; tables of models, which the authors' code writes beside, are not read.
    Raises DataUnreadable, with counts, for answers that are no category, a person's two answers to one picture, pictures that a person did
    not answer, rows that are cut short, and rows that say another category or condition of a picture than its own name does.
    """
    tables = [found for above in (place, place.absolute().parent) for found in sorted((above / "raw-data" / stimuli).glob(_names(stimuli)))]
    tables = [table for table in tables if table.parent == tables[0].parent]
    if not tables:
        return None
    rows = [row for table in tables for row in _read(table)]
    where = f"data 'model-vs-human': in {tables[0].parent}"
    _refuse(where, f"are not of people ('{_PERSON}…')", rows, [not row.person.startswith(_PERSON) for row in rows])
    _refuse(where, "answer none of the categories", rows, [row.answer not in (*categories, _SILENT) for row in rows])
    own = {one.image: (one.category, condition) for one, condition in zip(seen, conditions, strict=True)}
    here = [row for row in rows if row.seen.image in own]
    _refuse(where, "say another category or condition than the picture", here, [not _agrees(row, own) for row in here])
    given = _by_person(where, here)
    _refuse_holes(where, given, seen)
    index = {name: i for i, name in enumerate(categories)} | {_SILENT: -1}
    return [[index[given[person][one.image]] for person in sorted(given)] for one in seen]


def _names(stimuli: str) -> str:
    return f"{stimuli}_{_PERSON}*.csv"


def _read(table: Path) -> Iterator[_Row]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            lines = [{name.lower(): value for name, value in line.items() if name} for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataUnreadable(f"{table} cannot be read: {error}.") from error
    lacking = [name for name in _COLUMNS if lines and name not in lines[0]]
    if lacking or not lines:
        raise DataUnreadable(f"{table} has {f'no column {few(lacking)}' if lacking else 'no rows'}; it takes {', '.join(_COLUMNS)}.")
    names = [in_session(line["imagename"] or "") for line in lines]
    _refuse_lines(table, "are cut short", lines, [any(line[name] is None for name in _COLUMNS) for line in lines])
    _refuse_lines(table, "name no picture as the release names pictures", lines, [named is None for named in names])
    for number, (line, named) in enumerate(zip(lines, names, strict=True), start=2):
        if named is not None:
            told = Seen(named.image, line["category"], plain_condition(line["condition"]))
            yield _Row(f"{table.name}:{number}", line["subj"], told, line["object_response"])


def _refuse_lines(table: Path, what: str, lines: Sequence[object], bad: Sequence[bool]) -> None:
    found = [str(number) for number, is_bad in enumerate(bad, start=2) if is_bad]
    if found:
        raise DataUnreadable(f"{table}: {len(found)} of {len(lines)} rows {what}: line {few(found)}.")


def _agrees(row: _Row, own: Mapping[str, tuple[str, str]]) -> bool:
    category, condition = own[row.seen.image]
    return row.seen.category == category and condition in ("", row.seen.condition)


def _by_person(where: str, rows: Sequence[_Row]) -> dict[str, dict[str, str]]:
    given: dict[str, dict[str, str]] = {}
    twice = []
    for row in rows:
        of = given.setdefault(row.person, {})
        twice.append(row.seen.image in of)
        of[row.seen.image] = row.answer
    _refuse(where, "answer a picture that the same person has answered already", rows, twice)
    return given


def _refuse(where: str, what: str, rows: Sequence[_Row], bad: Sequence[bool]) -> None:
    found = [row.place for row, is_bad in zip(rows, bad, strict=True) if is_bad]
    if found:
        raise DataUnreadable(f"{where}, {len(found)} of {len(rows)} rows {what}: {few(found)}.")


def _refuse_holes(where: str, given: Mapping[str, Mapping[str, str]], seen: Sequence[Seen]) -> None:
    if not given:
        raise DataUnreadable(f"{where}, no row is about any of the {len(seen)} pictures here, such as {seen[0].image}.")
    holes = {person: [one.image for one in seen if one.image not in images] for person, images in sorted(given.items())}
    short = [f"{person} {len(images)} ({images[0]}, …)" for person, images in holes.items() if images]
    if short:
        raise DataUnreadable(
            f"{where}, {len(short)} of {len(given)} people have not answered all of the {len(seen)} pictures: {few(short)}."
        )
