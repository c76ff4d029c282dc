"""A picture of robustness against cost: a point for each model, whiskers for intervals, a line through the models that nothing beats.

Pure SVG. Colours are classes (`s0` … `s6`), which a page's style sheet fills; alone, the picture brings its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from robustvit.report.figures import SLOTS, Mark, Tick, number, symbol

_WIDTH, _HEIGHT = 860.0, 470.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 24.0, 34.0, 50.0
_LETTER, _LINE, _GAP = 6.0, 13.0, 7.0  # what a label's letters and lines take, and its distance from its mark
_NAMED = 12  # up to so many models every one is named, of more those that nothing beats
_LONGEST = 44  # letters of a label; the tip has the whole name
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b4568c", "#c98a00", "#3a9bd9", "#5b616e")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1b1d22}.name{paint-order:stroke;stroke:#fff;stroke-width:3px}.axis,.tick,.key{fill:#5b616e}.grid{stroke:#e4e5e8;fill:none}.front{stroke:#5b616e;"
    "stroke-dasharray:4 3;fill:none}.whisker{stroke:var(--c);opacity:.45;fill:none}.mark{fill:var(--c);stroke:#fff;stroke-width:.8}"
    ".beaten .mark{opacity:.65}.paper{fill:#fff}" + "".join(f".s{slot}{{--c:{colour}}}" for slot, colour in enumerate(_COLOURS))
)


@dataclass(frozen=True)
class Spot:
    """A model: cost > 0, its score with an interval (NaN for none), the group that colours it, and whether nothing beats it."""

    name: str
    cost: float
    score: float
    low: float = math.nan
    high: float = math.nan
    group: str = ""
    front: bool = False


@dataclass(frozen=True)
class Dot:
    """A drawn model. label: what is written beside it, "" where nothing is; tip: all that is known."""

    mark: Mark
    whisker: str
    slot: int
    front: bool
    tip: str
    label: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Scatter:
    """The picture in user units. columns: cost, on a logarithmic axis; rows: scores; groups: (slot, name)."""

    title: str
    across: str
    up: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    front: str
    dots: tuple[Dot, ...]
    groups: tuple[tuple[int, str], ...]
    width: float = _WIDTH
    height: float = _HEIGHT


def scatter(spots: Sequence[Spot], *, title: str, across: str, up: str) -> Scatter:
    """The picture of some models (at least one). The front is a staircase: at each cost, the best score that it buys.

    Up to twelve models are all named; of more, those that nothing beats, where there is room.
    """
    axes = _Axes(spots)
    slots = {group: slot for slot, group in enumerate(dict.fromkeys(spot.group for spot in spots))}
    best = sorted((spot for spot in spots if spot.front), key=lambda spot: (spot.cost, spot.score))
    steps = "".join(f"{'H' if i else 'M'}{axes.x(one.cost)}{'V' if i else ' '}{axes.y(one.score)}" for i, one in enumerate(best))
    taken = [_box(axes.x(spot.cost), axes.y(spot.score), "", "middle") for spot in spots]
    few = len(spots) <= _NAMED
    dots = [_dot(spot, slots[spot.group], axes, taken, few) for spot in sorted(spots, key=lambda spot: not spot.front)]
    groups = tuple((slot, group) for group, slot in slots.items()) if len(slots) > 1 else ()
    return Scatter(title, across, up, axes.columns, axes.rows, steps, tuple(reversed(dots)), groups)


def svg(picture: Scatter, *, alone: bool = False) -> str:
    """The picture as an SVG element; `alone` as a file of its own, with a style sheet and tips that need no script."""
    base, right = picture.height - _BOTTOM, picture.width - _RIGHT
    parts = [
        f'<path class="grid" d="M{_LEFT} {row.at}H{right}"/><text class="tick" x="{_LEFT - 8}" y="{row.at + 4}" text-anchor="end">{row.text}</text>'
        for row in picture.rows
    ]
    parts += [
        f'<path class="grid" d="M{column.at} {base}v5"/><text class="tick" x="{column.at}" y="{base + 19}" text-anchor="middle">{column.text}</text>'
        for column in picture.columns
    ]
    parts.append(
        f'<text class="axis" x="{(_LEFT + right) / 2}" y="{picture.height - 8}" text-anchor="middle">{escape(picture.across)}</text>'
    )
    middle = (_TOP + base) / 2
    parts.append(
        f'<text class="axis" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(picture.up)}</text>'
    )
    parts.append(f'<path class="front" d="{picture.front}"/>' if picture.front else "")
    parts += [_drawn(dot, alone) for dot in picture.dots]
    parts += _keys(picture.groups)
    size = f'viewBox="0 0 {picture.width:g} {picture.height:g}" role="img" aria-label="{escape(picture.title)}"'
    if not alone:
        return f'<svg class="scatter" {size}>{"".join(parts)}</svg>'
    paper = f'<style>{_STYLE}</style><title>{escape(picture.title)}</title><rect class="paper" width="100%" height="100%"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.width:g}" height="{picture.height:g}" {size}>{paper}{"".join(parts)}</svg>\n'


class _Axes:
    """Where costs and scores lie: costs by their logarithm, scores evenly."""

    def __init__(self, spots: Sequence[Spot]) -> None:
        costs = [math.log10(spot.cost) for spot in spots]
        scores = [value for spot in spots for value in (spot.score, spot.low, spot.high) if not math.isnan(value)]
        margin = max(0.06 * (max(costs) - min(costs)), 0.08)
        self.left, self.right = min(costs) - margin, max(costs) + 2 * margin  # labels stand on the right
        step = _step(max(scores) - min(scores))
        self.low, self.high = math.floor(min(scores) / step) * step, math.ceil(max(scores) / step) * step
        self.high += step if self.high == self.low else 0
        count = round((self.high - self.low) / step)
        self.rows = tuple(Tick(self.y(self.low + i * step), f"{self.low + i * step:g}") for i in range(count + 1))
        self.columns = tuple(Tick(self.x(value), f"{value:g}") for value in _round_numbers(self.left, self.right))

    def x(self, cost: float) -> float:
        """Where a cost stands, logarithmically."""
        share = (math.log10(cost) - self.left) / (self.right - self.left)
        return round(_LEFT + share * (_WIDTH - _RIGHT - _LEFT), 1)

    def y(self, score: float) -> float:
        """Where a score stands."""
        share = (score - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)


def _step(span: float) -> float:
    """A round distance between rows, for about six of them."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / 6))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= span / 6)


def _round_numbers(left: float, right: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; on a short axis, as many round numbers as make it readable."""
    powers = range(math.floor(left), math.ceil(right) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if left <= math.log10(factor * 10.0**power) <= right]
    if len(found) > 1:
        return found
    return [float(f"{10 ** (left + share * (right - left)):.3g}") for share in (0.15, 0.5, 0.85)]


def _dot(spot: Spot, slot: int, axes: _Axes, taken: list[tuple[float, float, float, float]], few: bool) -> Dot:
    x, y = axes.x(spot.cost), axes.y(spot.score)
    whisker = "" if math.isnan(spot.low) else f"M{x} {axes.y(spot.low)}V{axes.y(spot.high)}"
    interval = "" if math.isnan(spot.low) else f" [{number(spot.low)}, {number(spot.high)}]"
    tip = f"{spot.name}\n{number(spot.score)}{interval} at {spot.cost:.3g}" + (f"\n{spot.group}" if spot.group else "")
    mark = Mark(symbol(slot, x, y, 4.0 if spot.front else 3.1), "complete")
    label = spot.name if len(spot.name) <= _LONGEST else f"{spot.name[:26]}…{spot.name[-17:]}"
    places = [one for one in _places(x, y, few) if (spot.front or few) and _inside(_box(*one[:2], label, one[2]))]
    boxes = [_box(*one[:2], label, one[2]) for one in places]
    own = _box(x, y, "", "middle")
    free = next((i for i, box in enumerate(boxes) if not any(_meet(box, other) for other in taken if other != own)), 0 if few else None)
    if free is None or not places:
        return Dot(mark, whisker, slot, spot.front, tip, "", x, y, "start")
    taken.append(boxes[free])
    at, down, anchor = places[free]
    return Dot(mark, whisker, slot, spot.front, tip, label, round(at, 1), round(down, 1), anchor)


def _places(x: float, y: float, far: bool) -> list[tuple[float, float, str]]:
    """Where a label may stand, the best place first: beside its mark, above, below; further above and below where it must stand somewhere."""
    near = [(x - _GAP, y + 4, "end"), (x - 4, y - 8, "start"), (x + _GAP, y + 4, "start"), (x - 4, y + 18, "start")]
    ends = [(x + 4, y - 8, "end"), (x + 4, y + 18, "end")]
    further = [
        (at, down - _LINE * i if down < y else down + _LINE * i, anchor)
        for i in range(1, _NAMED)
        for at, down, anchor in (near[1], near[3], *ends)
    ]
    return [*near, *ends, *further] if far else near


def _box(x: float, y: float, text: str, anchor: str) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a text; of a mark where it is empty."""
    if not text:
        return x - 4, y - 4, x + 4, y + 4
    width = _LETTER * len(text)
    left = x if anchor == "start" else x - width if anchor == "end" else x - width / 2
    return left, y - _LINE + 3, left + width, y + 3


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= 0 and box[3] <= _HEIGHT - _BOTTOM


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _drawn(dot: Dot, alone: bool) -> str:
    tip = f"<title>{escape(dot.tip)}</title>" if alone else ""
    told = "" if alone else f' data-tip="{escape(dot.tip)}"'
    whisker = f'<path class="whisker" d="{dot.whisker}"/>' if dot.whisker else ""
    label = f'<text class="name" x="{dot.x}" y="{dot.y}" text-anchor="{dot.anchor}">{escape(dot.label)}</text>' if dot.label else ""
    state = "best" if dot.front else "beaten"
    return f'<g class="s{dot.slot % SLOTS} {state}"{told}>{tip}{whisker}<path class="mark" d="{dot.mark.path}"/>{label}</g>'


def _keys(groups: Sequence[tuple[int, str]]) -> Iterator[str]:
    """The legend, a line above the picture."""
    x, y = _LEFT + 4, _TOP - 18
    for slot, name in groups:
        mark = f'<path class="mark" d="{symbol(slot, x, y, 4.0)}"/>'
        yield f'<g class="s{slot % SLOTS}">{mark}<text class="key" x="{x + 10}" y="{y + 4}">{escape(name)}</text></g>'
        x += 34 + _LETTER * len(name)
