"""What a report's pictures show, as numbers and SVG paths: small curves with bands, interval bars, the colours of a heat map.

Everything is pure and in user units of an SVG view box; templates draw it and style sheets colour it by slot, so that one picture serves
light and dark pages, screens and paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

SLOTS = 7  # colours told apart by people with any colour vision; an eighth model takes the first colour with another shape

_RAMP = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "dbc75b", "efd94a", "fee838")  # dark to light
_STEPS = 20
_DARK_INK, _LIGHT_INK = "#000000", "#ffffff"
_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 8.0, 8.0, 22.0
_INSET = 8.0
_MARK = 3.1


@dataclass(frozen=True)
class Point:
    """One number of a curve. value is NaN where there is none; `status` and `note` say why, or how far it can be trusted.

    gradients: of what an attack left, the verdict on the gradients it followed.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    status: str = "complete"
    note: str = ""
    gradients: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a number to draw."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Series:
    """A curve before it is drawn: one Point for each level, and the slot that gives it colour and shape."""

    slot: int
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Mark:
    """A symbol at a point of a curve. kind: `complete`, `partial` (drawn hollow) or `failed` (a cross on the axis)."""

    path: str
    kind: str


@dataclass(frozen=True)
class Line:
    """A drawn curve: its path, its band, its symbols."""

    slot: int
    path: str
    band: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Hit:
    """A column of a panel that answers to the pointer, and what it tells, in lines."""

    x: float
    width: float
    tip: str


@dataclass(frozen=True)
class Panel:
    """A small picture: curves over ordered levels. scale: what the texts of `columns` leave out because all have it, as `1/255`."""

    title: str
    tag: str
    width: float
    height: float
    left: float
    right: float
    base: float
    scale: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    lines: tuple[Line, ...]
    hits: tuple[Hit, ...]
    guess: float | None


@dataclass(frozen=True)
class Shade:
    """A background of the heat map and the ink that reads on it (contrast at least 4.5 to 1)."""

    background: str
    ink: str


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
    top: float = 100.0,
    unit: str = "%",
    guess: float | None = None,
    size: tuple[float, float] = (220.0, 148.0),
) -> Panel:
    """Curves over `levels` (evenly spaced, in the order given), on an axis from 0 to `top`.

    guess: the value of a model that guesses, drawn as a dotted line; None draws none.
    """
    axes = _Axes(*size, count=len(levels), top=top)
    texts, scale = shortened(levels)
    return Panel(
        title=title, tag=tag, width=axes.width, height=axes.height, left=_LEFT, right=axes.width - _RIGHT, base=axes.base, scale=scale,
        columns=tuple(Tick(x, text) for x, text in zip(axes.xs, texts, strict=True)),
        rows=tuple(Tick(axes.y(top * part / 4), f"{top * part / 4:g}" if part % 2 == 0 else "") for part in range(5)),
        lines=tuple(_line(one, axes) for one in series),
        hits=tuple(
            Hit(round(x - axes.half, 1), round(2 * axes.half, 1), tip(title, level, series, i, unit))
            for i, (x, level) in enumerate(zip(axes.xs, levels, strict=True))
        ),
        guess=None if guess is None else axes.y(guess),
    )  # fmt: skip


def tip(title: str, level: str, series: Sequence[Series], index: int, unit: str) -> str:
    """What a panel tells at one level, a line for each curve."""
    lines = [f"{title} · {level}"]
    for one in series:
        point = one.points[index]
        if point.known or point.status != "absent":
            lines.append(f"{one.name}: {told(point, unit)}")
    return "\n".join(lines)


def told(point: Point, unit: str = "%") -> str:
    """A number with its interval and its reservations: `74.2 % [70.1, 78.0] (partial: 150 of 400 samples)`."""
    reserve = "" if point.status == "complete" else f"{point.status}: {point.note}" if point.note else point.status
    if not point.known:
        return reserve or "no value"
    space = f"\u00a0{unit}" if unit else ""
    interval = "" if math.isnan(point.low) else f" [{number(point.low)}, {number(point.high)}]"
    doubt = f"\ngradients {point.gradients}" if point.gradients else ""
    return f"{number(point.value)}{space}{interval}" + (f" ({reserve})" if reserve else "") + doubt


def number(value: float) -> str:
    """A number as tables print it: one decimal from 1 upwards, three significant digits below."""
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def ramp() -> tuple[Shade, ...]:
    """The colours of the heat map from low to high, equal steps of lightness as everybody sees them (after cividis)."""
    return tuple(_shade(step / _STEPS) for step in range(_STEPS + 1))


def step(value: float, top: float = 100.0) -> int:
    """Which colour of `ramp` a value takes on a scale from 0 to `top`."""
    return round(_STEPS * min(max(value / top, 0.0), 1.0))


def bar(value: float, low: float, high: float, top: float = 100.0) -> Bar:
    """An interval on a track of 100 units that ends at `top`; without an interval the ends meet at the value."""

    def x(number: float) -> float:
        return round(100 * min(max(number / top, 0.0), 1.0), 2)

    return Bar(x(value), x(value if math.isnan(low) else low), x(value if math.isnan(high) else high))


def ceiling(values: Sequence[float]) -> float:
    """A round number at or above every value, where an axis may end: 1, 2, 2.5 or 5 times a power of ten. 1 where there are none."""
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= largest * (1 - 1e-9))


def in_order(levels: Sequence[str]) -> list[str]:
    """Levels by size where all are numbers (`3`, `0.5/255`), else as they came; each once."""
    found = list(dict.fromkeys(levels))
    sizes = [_size(level) for level in found]
    if any(size is None for size in sizes):
        return found
    return [level for _, level in sorted(zip(sizes, found, strict=True), key=lambda pair: pair[0] or 0)]


def shortened(levels: Sequence[str]) -> tuple[list[str], str]:
    """Levels without the denominator that all of them (0 aside) share, and that scale: `["0", "1/255"]` gives `["0", "1"]`, `1/255`."""
    below = {level.partition("/")[2] for level in levels if level != "0"}
    if len(below) != 1 or not (shared := below.pop()):
        return list(levels), ""
    return [level.partition("/")[0] for level in levels], f"1/{shared}"


def symbol(slot: int, x: float, y: float, radius: float = _MARK) -> str:
    """The path of a slot's symbol: disc, square, triangle or diamond."""
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
    """Where levels and values lie in a panel."""

    def __init__(self, width: float, height: float, *, count: int, top: float) -> None:
        self.width, self.height, self.top = width, height, top
        self.base = height - _BOTTOM
        first, last = _LEFT + _INSET, width - _RIGHT - _INSET
        gap = (last - first) / (count - 1) if count > 1 else 0.0
        self.xs = [round(first + gap * i, 1) for i in range(count)] if count > 1 else [round((first + last) / 2, 1)] * count
        self.half = gap / 2 or (last - first) / 2

    def y(self, value: float) -> float:
        return round(self.base - (self.base - _TOP) * min(max(value / self.top, 0.0), 1.0), 1)


def _line(series: Series, axes: _Axes) -> Line:
    placed = list(zip(axes.xs, series.points, strict=True))
    runs = _runs(placed)
    return Line(
        slot=series.slot,
        path="".join("M" + "L".join(f"{x} {axes.y(point.value)}" for x, point in run) for run in runs),
        band="".join(_band(run, axes) for run in runs),
        marks=tuple(_mark(series.slot, x, point, axes) for x, point in placed if point.known or point.status == "failed"),
    )


def _runs(placed: Sequence[tuple[float, Point]]) -> list[list[tuple[float, Point]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, Point]]] = [[]]
    for x, point in placed:
        if point.known:
            runs[-1].append((x, point))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _band(run: Sequence[tuple[float, Point]], axes: _Axes) -> str:
    told = [(x, point) for x, point in run if not math.isnan(point.low)]
    if not told:
        return ""
    if len(told) == 1:  # a whisker, since a band of one point has no width
        x, point = told[0]
        return f"M{x - 1} {axes.y(point.high)}h2V{axes.y(point.low)}h-2z"
    upper = [f"{x} {axes.y(point.high)}" for x, point in told]
    lower = [f"{x} {axes.y(point.low)}" for x, point in reversed(told)]
    return "M" + "L".join(upper + lower) + "z"


def _mark(slot: int, x: float, point: Point, axes: _Axes) -> Mark:
    if point.known:
        return Mark(symbol(slot, x, axes.y(point.value)), "complete" if point.status == "complete" else "partial")
    y = axes.base - 4 - 5 * (slot % 4)  # beside each other where several models failed
    return Mark(f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0 -5l-5 5", "failed")


def _shade(place: float) -> Shade:
    position = place * (len(_RAMP) - 1)
    index = min(int(position), len(_RAMP) - 2)
    part = position - index
    pairs = zip(_rgb(_RAMP[index]), _rgb(_RAMP[index + 1]), strict=True)
    red, green, blue = (round(a + (b - a) * part) for a, b in pairs)
    dark = _luminance(red, green, blue) < 0.18  # where black and white read equally well
    return Shade(f"#{red:02x}{green:02x}{blue:02x}", _LIGHT_INK if dark else _DARK_INK)


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


def _luminance(red: int, green: int, blue: int) -> float:
    """Relative luminance, WCAG 2."""
    parts = [channel / 255 for channel in (red, green, blue)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _size(level: str) -> float | None:
    try:
        above, _, below = level.partition("/")
        return float(Fraction(above) / Fraction(below or 1))
    except (ValueError, ZeroDivisionError):
        return None
