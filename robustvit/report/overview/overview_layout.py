"""Where everything of an overview is drawn: the families side by side on one axis of accuracy, in user units of a slide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustvit.report.labels import format_number
from robustvit.report.overview.overview_numbers import Overview, OverviewNumber
from robustvit.report.points import Point
from robustvit.results.comparison import ALPHA
from robustvit.results.families.row_families import FAMILIES
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.paired_best import PairedTests
from robustvit.statistics.intervals import holm

WIDTH = 960.0
_LEAST = 540.0  # the height of a slide of this width
_LEFT, _TITLES, _TRACK, _END, _NUMBERS, _RIGHT = 28.0, 142.0, 446.0, 684.0, 708.0, 932.0
_TOP = 112.0
_ROW, _WIDEST, _SECOND, _NONE = 40.0, 54.0, 19.0, 28.0  # heights of a row, at least and at most, of the reference in it, of one without
_LETTERS, _SMALL = 42, 50  # that a title and the line below it have room for
_ALL = 132  # letters of a line across


@dataclass(frozen=True)
class Label:
    """A text.

    kind: `title`, `sub`, `family`, `absent`, `row`, `small`, `value`, `interval`, `tick`, `second` or `foot`. whole: where it is shortened.
    """

    x: float
    y: float
    text: str
    kind: str
    anchor: str = "start"
    whole: str = ""


@dataclass(frozen=True)
class Stroke:
    """A straight line. kind: `rule`, `grid`, `track`, `clean`, `whisker` or `second`."""

    x: float
    y: float
    to_x: float
    to_y: float
    kind: str


@dataclass(frozen=True)
class Dot:
    """A mark at a value. kind: `first`, `first partial`, `second` or `second partial`; tip: what it says."""

    x: float
    y: float
    kind: str
    tip: str


@dataclass(frozen=True)
class OverviewFigure:
    """An overview as drawn. title: its words, for who does not see it."""

    title: str
    height: float
    slot: int
    shapes: tuple[Label | Stroke | Dot, ...]


def overview_figure(overview: Overview, against: Overview | None = None, tests: PairedTests | None = None, slot: int = 0) -> OverviewFigure:
    """The figure of a model. against: a reference model, whose numbers of the same cells stand below; tests: paired tests of the two.

    A row's difference is marked as shown where its p-value is below 5 % after Holm's correction over all rows.
    """
    beside = {} if against is None else {one.key: one for one in against.numbers}
    shown = _shown(overview, beside, tests)
    more, feet, count = _SECOND if against is not None else 0.0, list(_feet(overview, against)), len(overview.numbers)
    none = {**dict.fromkeys(overview.missing, "not evaluated"), **dict.fromkeys(overview.undrawn, "evaluated, without an accuracy")}
    free = _LEAST - _TOP - 30 - 17 * len(feet) - _NONE * len(none)
    row = min(max(_ROW + more, free / max(count, 1)), _WIDEST + more)
    bottom = _TOP + row * count + _NONE * len(none)
    height = max(_LEAST, bottom + 30 + 17 * len(feet))
    shapes: list[Label | Stroke | Dot] = [*_heading(overview, against), *_axis(bottom)]
    top = _TOP
    for family in ("clean", *FAMILIES):
        for at, one in enumerate(every for every in overview.numbers if every.family == family):
            shapes += _row(one, top, row, beside.get(one.key), shown.get(one.key), new=at == 0, several=against is not None)
            top += row
        if family in none:
            shapes += [
                Stroke(_LEFT, top, _RIGHT, top, "rule"), Label(_LEFT, top + 19, family, "absent"),
                Label(_TITLES, top + 19, none[family], "small"),
            ]  # fmt: skip
            top += _NONE
    shapes += [Label(_LEFT, height - 20 - 17 * (len(feet) - 1 - at), text, "foot") for at, text in enumerate(feet)]
    words = "; ".join(f"{one.family}, {one.title}: {_value(one.point)} %" for one in overview.numbers)
    return OverviewFigure(f"Robustness of {overview.model} by family. {words}", height, slot, tuple(shapes))


def _shown(
    overview: Overview, beside: Mapping[tuple[str, str, str], OverviewNumber], tests: PairedTests | None
) -> dict[tuple[str, str, str], bool]:
    """Whether a test shows that a number differs from the reference's, where there is one."""
    found = {}
    for one in overview.numbers:
        other = beside.get(one.key)
        if other is not None and tests is not None and one.point.known and other.point.known:
            test = tests.test(one.rows, other.rows)
            if test is not None:
                found[one.key] = test.p
    return dict(zip(found, (bool(p < ALPHA) for p in holm(list(found.values()))), strict=True))


def _heading(overview: Overview, against: Overview | None) -> Iterator[Label | Dot]:
    name = _cut(overview.model, 60)
    yield Label(_LEFT, 44, name, "title", whole=overview.model)
    if against is None:
        yield Label(_LEFT, 68, "Accuracy in % with 95 % intervals, by family of perturbations", "sub")
        return
    yield Label(_LEFT, 68, f"against {_cut(against.model, 70)}; accuracy in % with 95 % intervals, by family of perturbations", "sub")


def _axis(bottom: float) -> Iterator[Label | Stroke]:
    for value in (0, 25, 50, 75, 100):
        yield Stroke(_x(value), _TOP - 8, _x(value), bottom, "grid")
        yield Label(_x(value), _TOP - 14, f"{value}", "tick", "middle")
    yield Label(_NUMBERS, _TOP - 14, "95 % interval", "tick")
    yield Label(_RIGHT, _TOP - 14, "images", "tick", "end")


def _row(
    one: OverviewNumber, top: float, height: float, other: OverviewNumber | None, shown: bool | None, *, new: bool, several: bool
) -> Iterator[Label | Stroke | Dot]:
    """One number: its family on the first row of it, title, mark with interval, digits, and those of the reference below."""
    y = round(top + (height - (_SECOND if several else 0.0)) / 2, 1)
    if new:
        yield Stroke(_LEFT, top, _RIGHT, top, "rule")
        yield Label(_LEFT, y + 5, one.family, "family")
    yield Label(_TITLES, y - 2, _cut(one.title, _LETTERS), "row", whole=one.title)
    small = " · ".join(text for text in (one.where, one.note) if text)
    yield Label(_TITLES, y + 13, _cut(small, _SMALL), "small", whole=small)
    yield Stroke(_TRACK, y, _END, y, "track")
    if not math.isnan(one.clean):
        yield Stroke(_x(one.clean), y - 9, _x(one.clean), y + 9, "clean")
    yield from _mark(one, y, "first")
    yield Label(_RIGHT, y + 5, f"{one.n:,}", "interval", "end")
    if not several:
        return
    if other is None:
        yield Label(_NUMBERS, y + 5 + _SECOND, "reference: not evaluated", "second")
        return
    yield from _mark(other, y + _SECOND - 4, "second")
    sign = "" if shown is None else "differs" if shown else "no difference"
    yield Label(_RIGHT, y + 5 + _SECOND, sign, "second", "end")


def _mark(one: OverviewNumber, y: float, kind: str) -> Iterator[Label | Stroke | Dot]:
    """The mark of a value, its interval and digits; of none its status."""
    point, down = one.point, 5 if kind == "first" else 9
    if not point.known:
        yield Label(_NUMBERS, y + down, point.status, "value" if kind == "first" else "second")
        return
    if not math.isnan(point.low):
        yield Stroke(_x(point.low), y, _x(point.high), y, "whisker" if kind == "first" else "second")
    partial = "" if point.status == "complete" else " partial"
    doubt = partial + _doubt(point)
    tip = f"{one.family}: {one.title}\n{one.where}\n{_value(point)} %{_interval(point)}, {one.n} images"
    yield Dot(
        _x(point.value),
        y,
        kind + partial,
        tip + (f"\n{point.note}" if point.note else "") + (f"\ngradients {point.gradients}" if point.gradients else ""),
    )
    if kind == "first":
        yield Label(_NUMBERS, y + down, _value(point), "value")
        yield Label(_NUMBERS + 54, y + down, _interval(point).strip() + doubt, "interval")
        return
    yield Label(_NUMBERS, y + down, _value(point) + _interval(point) + doubt, "second")


def _feet(overview: Overview, against: Overview | None) -> Iterator[str]:
    """The lines below: how to read it, and how much is left out."""
    told = "The vertical line is the accuracy on clean images of the same data."
    if against is not None:
        told += " Diamonds are the reference; whether it differs is shown by paired tests, corrected by Holm over the rows, 5 %."
    doubts = {_doubt(one.point) for side in (overview, against) if side is not None for one in side.numbers}
    told += " ! marks suspect gradients: the accuracy is an upper bound." if " !" in doubts else ""
    told += " ? marks a number that a reason doubts, which the leaderboard gives." if " ?" in doubts else ""
    left = [f"{count} more of {name}" for name, count in overview.more.items()]
    yield from _lines(told + (f" Not shown: {', '.join(left)}." if left else ""))


def _doubt(point: Point) -> str:
    """The mark of a number as tables have it: ! where gradients are suspect, ? where a reason says why it is doubted."""
    return " !" if verdict_word(point.gradients) == "suspect" else " ?" if point.doubted else ""


def _lines(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= _ALL:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line


def _value(point: Point) -> str:
    return format_number(point.value) if point.known else point.status


def _interval(point: Point) -> str:
    return "" if math.isnan(point.low) else f" [{format_number(point.low)}, {format_number(point.high)}]"


def _x(value: float) -> float:
    return round(_TRACK + (_END - _TRACK) * min(max(value, 0.0), 100.0) / 100, 1)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-(most // 3 - 1) :]}"


def texts_overlap(shapes: Sequence[Label | Stroke | Dot], widths: Mapping[str, float]) -> list[tuple[str, str]]:
    """The pairs of labels whose boxes overlap, where a letter of each kind is so wide: for tests of layouts."""
    boxes = []
    for one in (shape for shape in shapes if isinstance(shape, Label) and shape.text):
        width = widths[one.kind] * len(one.text)
        left = one.x - {"start": 0.0, "middle": width / 2, "end": width}[one.anchor]
        boxes.append((left, one.y - 9, left + width, one.y + 2, one.text))
    return [(a[4], b[4]) for a, b in itertools.combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
