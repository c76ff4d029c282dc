"""The headline numbers of two stores as rows of a table, a table for each model and suite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from robustvit.report.labels import format_number, metric_tip
from robustvit.report.two_stores.verdicts import difference_text, signed
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import ShownNumber
from robustvit.results.two_stores.paired_headlines import HeadlineGroup, NumberPair
from robustvit.spec.written.words import metric_name, with_spaces

_OPEN = 4  # groups that are unfolded


@dataclass(frozen=True)
class ShownValue:
    """A number of one side: its text, its interval, and its status where it is not complete."""

    text: str
    interval: str
    status: str


@dataclass(frozen=True)
class HeadlineRow:
    """A number of both sides. apart: `better` or `worse` where the interval of the difference excludes 0. note: what limits it."""

    title: str
    tip: str
    unit: str
    a: ShownValue | None
    b: ShownValue | None
    difference: str
    interval: str
    apart: str
    note: str


@dataclass(frozen=True)
class HeadlineTable:
    """The numbers of one model on one suite. apart: how many differ by more than their intervals."""

    title: str
    tags: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]
    apart: int
    open: bool


def headline_tables(groups: Sequence[HeadlineGroup]) -> tuple[HeadlineTable, ...]:
    """The tables of what `paired_headlines` found."""
    varied = [name for name in GROUP[2:] if len({group.about[name] for group in groups}) > 1]
    made = []
    for place, group in enumerate(groups):
        rows = tuple(map(_row, group.numbers))
        model = " → ".join(filter(None, (group.about["model"], group.about["transforms"])))
        tags = tuple(
            f"seed {group.about[name]}" if name == "seed" else str(group.about[name]) for name in varied if group.about[name] != ""
        )
        made.append(HeadlineTable(model, tags, rows, sum(bool(row.apart) for row in rows), place < _OPEN))
    return tuple(made)


def _row(pair: NumberPair) -> HeadlineRow:
    number = pair.a or pair.b
    assert number is not None, "a pair has a side"
    found = pair.difference
    unit = str(number.rows["unit"].iloc[0])
    paired = found is not None and not math.isnan(found.low)
    equal = found is not None and found.equal
    apart = "" if not paired or found is None or found.low <= 0 <= found.high else _direction(number, found.value)
    difference, interval = "", ""
    if found is not None:
        difference, interval = difference_text(*found[:3], unit) if paired and not equal else (signed(found.value, unit), "")
    title, tip = _title(number), metric_tip(number.metric)
    note = _note(pair, paired=paired, equal=equal)
    return HeadlineRow(title, tip, unit, _value(pair.a), _value(pair.b), difference, interval, apart, note)


def _title(number: ShownNumber) -> str:
    """The title of a number, with the readable name of its metric in the place of the metric's own."""
    head = number.title.removesuffix(number.metric)
    return with_spaces(head) + metric_name(number.metric) if head != number.title else with_spaces(number.title)


def _direction(number: ShownNumber, difference: float) -> str:
    if number.higher_is_better is None:
        return "more" if difference > 0 else "less"
    return "better" if (difference > 0) == number.higher_is_better else "worse"


def _value(number: ShownNumber | None) -> ShownValue | None:
    if number is None:
        return None
    facts = number.facts
    if math.isnan(facts["value"]):
        return ShownValue("", "", facts["status"])
    interval = f"[{format_number(facts['low'])}, {format_number(facts['high'])}]"
    return ShownValue(format_number(facts["value"]), interval, "" if facts["status"] == "complete" else facts["status"])


def _note(pair: NumberPair, *, paired: bool, equal: bool) -> str:
    """Why there is no interval, or on how many images it is where the sides have others besides."""
    if pair.a is None or pair.b is None:
        return f"only in {'B' if pair.a is None else 'A'}"
    if pair.difference is None:
        return "no value" if any(math.isnan(one.facts["value"]) for one in (pair.a, pair.b)) else "not comparable"
    if not paired:
        return "not paired"
    cells = f"over the {pair.shared} cells that both have" if pair.shared else ""
    counts = {int(one.rows["n"].max()) for one in (pair.a, pair.b)}
    shared = pair.difference.n < max(counts)
    images = f"{pair.difference.n:,} shared images" if shared else ""
    if equal:
        return ", ".join(filter(None, (f"equal in all {images}" if images else "equal in every image", cells)))
    return ", ".join(filter(None, (cells, f"on {images}" if images else "")))
