"""Figures as numbers and SVG paths: panels of curves with confidence bands, interval bars, symbols.

Everything is pure and in user units of an SVG view box; templates draw it and the style sheet colours it by slot, so the same figure
serves light and dark pages, screens and paper.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from robustvit.report.axes import readable_labels, spacing
from robustvit.report.labels import shorten_levels
from robustvit.report.points import Point, point_text

_WIDTH, _HEIGHT = 220.0, 154.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 8.0, 8.0, 28.0
_TITLE = 15.0  # room below for the title of an axis
_CHARACTER = 7.0  # width of one of a tick's label
_BASE = _HEIGHT - _BOTTOM
_INSET = 8.0
_MARK = 3.1
_BESIDE, _SPREAD = 2.0, 12.0  # between curves at a level, so that equal ones do not hide each other; and of all of them


@dataclass(frozen=True)
class Series:
    """The values of one curve, a Point for each level. slot: gives the curve its colour and symbol."""

    slot: int
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Mark:
    """A symbol at a point of a curve. kind: `complete`, `partial` (drawn hollow) or `failed` (a cross below the axis)."""

    path: str
    kind: str


@dataclass(frozen=True)
class DrawnCurve:
    """The SVG paths of a curve: line, confidence band, symbols."""

    slot: int
    path: str
    band: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """A position on an axis and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class HoverColumn:
    """A column of a panel that shows a tooltip. tip: the tooltip's lines."""

    x: float
    width: float
    tip: str


@dataclass(frozen=True)
class Panel:
    """A small plot of curves over ordered levels.

    scale: the factor left out of the labels of `columns` as all share it, e.g. `1/255`. axis: what is written below the levels.
    """

    title: str
    tag: str
    width: float
    height: float
    left: float
    right: float
    base: float
    scale: str
    axis: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    curves: tuple[DrawnCurve, ...]
    hovers: tuple[HoverColumn, ...]
    chance: float | None
    series: tuple[Series, ...]
    top: float
    unit: str
    bottom: float = 0.0


@dataclass(frozen=True)
class Bar:
    """A value and its interval on a track from 0 to 100."""

    at: float
    low: float
    high: float


def panel(
    title: str,
    levels: Sequence[str],
    series: Sequence[Series],
    *,
    tag: str = "",
    axis: str = "",
    top: float = 100.0,
    bottom: float = 0.0,
    unit: str = "%",
    chance: float | None = None,
) -> Panel:
    """Curves over `levels` (in the order given, spaced by their values as `spacing` has it), on an axis from `bottom` to `top`.

    axis: what the levels are; the factor that they share, and a scale that is not linear, are added to it. chance: the value at chance
    level, drawn as a dotted line; None draws none.
    """
    axes = _Axes(levels, top, bottom)
    labels, scale = shorten_levels(levels)
    below = ", ".join(part for part in (axis, f"in {scale}" if axis and scale else "", axes.note) if part)
    return Panel(
        title=title, tag=tag, width=_WIDTH, height=_HEIGHT + (_TITLE if below else 0.0),
        left=_LEFT, right=_WIDTH - _RIGHT, base=_BASE, scale=scale, axis=below,
        columns=tuple(Tick(x, text) for x, text in zip(axes.xs, readable_labels(labels, axes.xs, _CHARACTER), strict=True)),
        rows=tuple(Tick(axes.y(at), f"{at:.4g}" if part % 2 == 0 else "") for part, at in enumerate(axes.quarters)),
        curves=tuple(_curve(one, axes, shift) for one, shift in zip(series, _shifts(len(series)), strict=True)),
        hovers=tuple(
            HoverColumn(round(left, 1), round(right - left, 1), _tooltip(title, level, series, i, unit))
            for i, (left, right, level) in enumerate(zip(axes.edges, axes.edges[1:], levels, strict=False))
        ),
        chance=None if chance is None else axes.y(chance), series=tuple(series), top=top, unit=unit, bottom=bottom,
    )  # fmt: skip


def bar(value: float, low: float, high: float, top: float = 100.0) -> Bar:
    """An interval on a track of 100 units that ends at `top`; without an interval both ends are at the value."""

    def x(number: float) -> float:
        return round(100 * min(max(number / top, 0.0), 1.0), 2)

    return Bar(x(value), x(value if math.isnan(low) else low), x(value if math.isnan(high) else high))


def axis_end(values: Sequence[float]) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that is at least every finite value; 1 where none is above 0."""
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= largest * (1 - 1e-9))


def symbol(slot: int, x: float, y: float, radius: float = _MARK) -> str:
    """SVG path of a slot's symbol: disc, square, triangle or diamond."""
    r = radius
    shape = slot % 4
    if shape == 0:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    if shape == 1:
        return f"M{x - r * 0.9:.1f} {y - r * 0.9:.1f}h{1.8 * r:.1f}v{1.8 * r:.1f}h{-1.8 * r:.1f}z"
    if shape == 2:
        return f"M{x:.1f} {y - 1.2 * r:.1f}l{1.15 * r:.1f} {2.0 * r:.1f}h{-2.3 * r:.1f}z"
    return f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {-1.3 * r:.1f}z"


class _Axes:
    """Coordinates of levels and values in a panel."""

    def __init__(self, levels: Sequence[str], top: float, bottom: float) -> None:
        self.top, self.bottom = top, bottom
        self.quarters = [bottom + (top - bottom) * part / 4 for part in range(5)]
        first, last = _LEFT + _INSET, _WIDTH - _RIGHT - _INSET
        found = spacing(levels)
        self.note = found.note
        self.xs = [round(first + (last - first) * place, 1) for place in found.places]
        self.edges = [_LEFT, *((a + b) / 2 for a, b in itertools.pairwise(self.xs)), _WIDTH - _RIGHT]

    def y(self, value: float) -> float:
        return round(_BASE - (_BASE - _TOP) * min(max((value - self.bottom) / (self.top - self.bottom), 0.0), 1.0), 1)


def _tooltip(title: str, level: str, series: Sequence[Series], index: int, unit: str) -> str:
    """The text of one level: a line for each curve that was evaluated there."""
    points = [(one.name, one.points[index]) for one in series]
    lines = [f"{name}: {point_text(point, unit)}" for name, point in points if point.known or point.status != "absent"]
    return "\n".join([f"{title} · {level}", *lines])


def _shifts(count: int) -> list[float]:
    """How far each of so many curves is drawn to the right of its level."""
    gap = min(_BESIDE, _SPREAD / count) if count else 0.0
    return [gap * (index - (count - 1) / 2) for index in range(count)]


def _curve(series: Series, axes: _Axes, shift: float) -> DrawnCurve:
    placed = list(zip([round(x + shift, 1) for x in axes.xs], series.points, strict=True))
    runs = _runs(placed)
    return DrawnCurve(
        slot=series.slot,
        path="".join("M" + "L".join(f"{x} {axes.y(point.value)}" for x, point in run) for run in runs),
        band="".join(_band(run, axes) for run in runs),
        marks=tuple(_mark(series.slot, x, point, axes) for x, point in placed if point.known or point.status == "failed"),
    )


def _runs(placed: Sequence[tuple[float, Point]]) -> list[list[tuple[float, Point]]]:
    """Stretches of known points without a gap."""
    runs: list[list[tuple[float, Point]]] = [[]]
    for x, point in placed:
        if point.known:
            runs[-1].append((x, point))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _band(run: Sequence[tuple[float, Point]], axes: _Axes) -> str:
    bounded = [(x, point) for x, point in run if not math.isnan(point.low)]
    if not bounded:
        return ""
    if len(bounded) == 1:  # a whisker, since a band of one point has no width
        x, point = bounded[0]
        return f"M{x - 1} {axes.y(point.high)}h2V{axes.y(point.low)}h-2z"
    upper = [f"{x} {axes.y(point.high)}" for x, point in bounded]
    lower = [f"{x} {axes.y(point.low)}" for x, point in reversed(bounded)]
    return "M" + "L".join(upper + lower) + "z"


def _mark(slot: int, x: float, point: Point, axes: _Axes) -> Mark:
    if point.known:
        return Mark(symbol(slot, x, axes.y(point.value)), "complete" if point.status == "complete" else "partial")
    y = _BASE + 5  # below the axis, where there are no values
    return Mark(f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0 -5l-5 5", "failed")
