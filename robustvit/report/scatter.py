"""Scatter plot of robustness against cost as SVG: a point for each model, whiskers for intervals, a line along the Pareto front.

Colours are classes (`s0` … `s6`), defined by the style sheet of the page, or by the plot's own in a file by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from robustvit.report.axes import round_numbers, round_step
from robustvit.report.colours import colour
from robustvit.report.figures import Mark, Tick, symbol
from robustvit.report.labels import format_number

_WIDTH, _HEIGHT = 860.0, 470.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 24.0, 34.0, 50.0
_LETTER, _LINE, _GAP = 6.0, 13.0, 7.0  # width of a letter, height of a line, distance of a label from its mark
_NAMED = 12  # up to this many models are all labelled; of more, only the Pareto front
_Box = tuple[float, float, float, float]  # left, top, right, bottom
_LONGEST = 44  # letters of a label; the tooltip has the whole name
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b4568c", "#c98a00", "#3a9bd9", "#5b616e")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1b1d22}.name{paint-order:stroke;stroke:#fff;stroke-width:3px}"
    ".axis,.tick,.key{fill:#5b616e}.grid{stroke:#e4e5e8;fill:none}.front{stroke:#5b616e;stroke-dasharray:4 3;fill:none}"
    ".whisker{stroke:var(--c);opacity:.45;fill:none}.mark{fill:var(--c);stroke:#fff;stroke-width:.8}"
    ".dominated .mark{opacity:.65}.noise .mark{fill:#fff;stroke:var(--c);stroke-width:1.6}.paper{fill:#fff}"
    + "".join(f".s{slot}{{--c:{shade}}}" for slot, shade in enumerate(_PALETTE))
)


@dataclass(frozen=True)
class ScatterPoint:
    """A model: cost > 0, score with interval (NaN for none), the group that colours it, and whether it is on the Pareto front.

    noise: whether no test shows that it is there, or is not; standing: that in words, for the tooltip.
    """

    name: str
    cost: float
    score: float
    low: float = math.nan
    high: float = math.nan
    group: str = ""
    front: bool = False
    noise: bool = False
    standing: str = ""


@dataclass(frozen=True)
class DrawnModel:
    """A drawn model. label: the text beside its mark, "" for none, anchored at (x, y); tip: its tooltip."""

    mark: Mark
    whisker: str
    slot: int
    front: bool
    tip: str
    label: str
    x: float
    y: float
    anchor: str
    noise: bool = False


@dataclass(frozen=True)
class Scatter:
    """The plot in user units. columns: ticks of the cost, on a logarithmic axis; rows: ticks of the score; groups: (slot, name).

    points: what it is of.
    """

    title: str
    across: str
    up: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    front: str
    models: tuple[DrawnModel, ...]
    groups: tuple[tuple[int, str], ...]
    points: tuple[ScatterPoint, ...] = ()


def scatter(points: Sequence[ScatterPoint], *, title: str, across: str, up: str) -> Scatter:
    """The plot of one or more models. The front is a staircase: at each cost, the best score for that cost or less.

    across, up: titles of the axes. Up to twelve models are all labelled; of more, those on the Pareto front, where there is room.
    """
    axes = _Axes(points)
    slots = {group: slot for slot, group in enumerate(dict.fromkeys(point.group for point in points))}
    best = sorted((point for point in points if point.front), key=lambda point: (point.cost, point.score))
    front = "".join(f"{'H' if i else 'M'}{axes.x(one.cost)}{'V' if i else ' '}{axes.y(one.score)}" for i, one in enumerate(best))
    taken = [_mark_box(axes.x(point.cost), axes.y(point.score)) for point in points]
    few = len(points) <= _NAMED
    models = [_model(point, slots[point.group], axes, taken, few) for point in sorted(points, key=lambda point: not point.front)]
    groups = tuple((slot, group) for group, slot in slots.items()) if len(slots) > 1 else ()
    return Scatter(title, across, up, axes.columns, axes.rows, front, tuple(reversed(models)), groups, tuple(points))


def svg(plot: Scatter, *, standalone: bool = False) -> str:
    """The plot as an SVG element; `standalone` as a file of its own, with a style sheet and tooltips that need no script."""
    parts = [*_axes(plot), f'<path class="front" d="{plot.front}"/>' if plot.front else ""]
    parts += [_drawn(model, standalone) for model in plot.models]
    parts += _legend(plot.groups)
    if any(model.noise for model in plot.models):
        place = f'x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end"'
        parts.append(f'<text class="key" {place}>hollow: within noise</text>')
    size = f'viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(plot.title)}"'
    if not standalone:
        return f'<svg class="scatter" {size}>{"".join(parts)}</svg>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:g}" height="{_HEIGHT:g}" {size}>'
    paper = f'<style>{_STYLE}</style><title>{escape(plot.title)}</title><rect class="paper" width="100%" height="100%"/>'
    return f"{head}{paper}{''.join(parts)}</svg>\n"


def _axes(plot: Scatter) -> Iterator[str]:
    """Grid lines, tick labels and titles of both axes."""
    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for row in plot.rows:
        yield f'<path class="grid" d="M{_LEFT} {row.at}H{right}"/>'
        yield f'<text class="tick" x="{_LEFT - 8}" y="{row.at + 4}" text-anchor="end">{row.text}</text>'
    for column in plot.columns:
        yield f'<path class="grid" d="M{column.at} {base}v5"/>'
        yield f'<text class="tick" x="{column.at}" y="{base + 19}" text-anchor="middle">{column.text}</text>'
    yield f'<text class="axis" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(plot.across)}</text>'
    turn = f'transform="rotate(-90 14 {(_TOP + base) / 2})"'
    yield f'<text class="axis" x="14" y="{(_TOP + base) / 2}" text-anchor="middle" {turn}>{escape(plot.up)}</text>'


class _Axes:
    """Coordinates of costs, on a logarithmic axis, and of scores, on a linear one."""

    def __init__(self, points: Sequence[ScatterPoint]) -> None:
        costs = [math.log10(point.cost) for point in points]
        scores = [value for point in points for value in (point.score, point.low, point.high) if not math.isnan(value)]
        margin = max(0.06 * (max(costs) - min(costs)), 0.08)
        self.left, self.right = min(costs) - margin, max(costs) + 2 * margin  # room for labels on the right
        step = round_step(max(scores) - min(scores))
        self.low, self.high = math.floor(min(scores) / step) * step, math.ceil(max(scores) / step) * step
        self.high += step if self.high == self.low else 0
        count = round((self.high - self.low) / step)
        self.rows = tuple(Tick(self.y(self.low + i * step), f"{self.low + i * step:g}") for i in range(count + 1))
        self.columns = tuple(Tick(self.x(value), f"{value:g}") for value in round_numbers(self.left, self.right))

    def x(self, cost: float) -> float:
        """Horizontal coordinate of a cost."""
        share = (math.log10(cost) - self.left) / (self.right - self.left)
        return round(_LEFT + share * (_WIDTH - _RIGHT - _LEFT), 1)

    def y(self, score: float) -> float:
        """Vertical coordinate of a score."""
        share = (score - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)


def _model(point: ScatterPoint, slot: int, axes: _Axes, taken: list[_Box], few: bool) -> DrawnModel:
    x, y = axes.x(point.cost), axes.y(point.score)
    whisker = "" if math.isnan(point.low) else f"M{x} {axes.y(point.low)}V{axes.y(point.high)}"
    interval = "" if math.isnan(point.low) else f" [{format_number(point.low)}, {format_number(point.high)}]"
    more = "".join(f"\n{text}" for text in (point.group, point.standing) if text)
    tip = f"{point.name}\n{format_number(point.score)}{interval} at {point.cost:.3g}{more}"
    mark = Mark(symbol(slot, x, y, 4.0 if point.front else 3.1), "complete")
    name = point.name if len(point.name) <= _LONGEST else f"{point.name[:26]}…{point.name[-17:]}"
    label = _label(name, x, y, taken, few) if point.front or few else _NO_LABEL
    return DrawnModel(mark, whisker, slot, point.front, tip, label.text, round(label.x, 1), round(label.y, 1), label.anchor, point.noise)


def _label(text: str, x: float, y: float, taken: list[_Box], always: bool) -> _Label:
    """A label of the mark at (x, y) at the first position that overlaps nothing in `taken`, which then has its box, too.

    always: take the first position inside the plot where none is free; otherwise the label is left out.
    """
    labels = [label for label in _positions(text, x, y, always) if _inside(label.box)]
    others = [box for box in taken if box != _mark_box(x, y)]
    free = [label for label in labels if not any(_overlap(label.box, other) for other in others)]
    if not (free or (always and labels)):
        return _NO_LABEL
    taken.append((free or labels)[0].box)
    return (free or labels)[0]


def _positions(text: str, x: float, y: float, far: bool) -> list[_Label]:
    """Possible labels, the best first: beside the mark, above, below; with `far` also further above and below."""
    near = [(x - _GAP, y + 4, "end"), (x - 4, y - 8, "start"), (x + _GAP, y + 4, "start"), (x - 4, y + 18, "start")]
    ends = [(x + 4, y - 8, "end"), (x + 4, y + 18, "end")]
    further = [
        (at, down - _LINE * i if down < y else down + _LINE * i, anchor)
        for i in range(1, _NAMED)
        for at, down, anchor in (near[1], near[3], *ends)
    ]
    return [_Label(text, *position) for position in ([*near, *ends, *further] if far else near)]


class _Label(NamedTuple):
    text: str
    x: float
    y: float
    anchor: str

    @property
    def box(self) -> _Box:
        width = _LETTER * len(self.text)
        left = self.x if self.anchor == "start" else self.x - width
        return left, self.y - _LINE + 3, left + width, self.y + 3


_NO_LABEL = _Label("", 0.0, 0.0, "start")


def _mark_box(x: float, y: float) -> _Box:
    return x - 4, y - 4, x + 4, y + 4


def _inside(box: _Box) -> bool:
    return box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP - _LINE and box[3] <= _HEIGHT - _BOTTOM


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _drawn(model: DrawnModel, standalone: bool) -> str:
    title = f"<title>{escape(model.tip)}</title>" if standalone else ""
    tip = "" if standalone else f' data-tip="{escape(model.tip)}"'
    whisker = f'<path class="whisker" d="{model.whisker}"/>' if model.whisker else ""
    place = f'x="{model.x}" y="{model.y}" text-anchor="{model.anchor}"'
    label = f'<text class="name" {place}>{escape(model.label)}</text>' if model.label else ""
    kind = ("best" if model.front else "dominated") + (" noise" if model.noise else "")
    return f'<g class="s{colour(model.slot)} {kind}"{tip}>{title}{whisker}<path class="mark" d="{model.mark.path}"/>{label}</g>'


def _legend(groups: Sequence[tuple[int, str]]) -> Iterator[str]:
    """The legend, a line above the plot."""
    x, y = _LEFT + 4, _TOP - 18
    for slot, name in groups:
        mark = f'<path class="mark" d="{symbol(slot, x, y, 4.0)}"/>'
        yield f'<g class="s{colour(slot)}">{mark}<text class="key" x="{x + 10}" y="{y + 4}">{escape(name)}</text></g>'
        x += 34 + _LETTER * len(name)
