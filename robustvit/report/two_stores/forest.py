"""A forest plot of the differences of two stores: a mark with its paired interval for every cell, by model and scenario over severity.

Positions across are percentages of a row's width, so that rows are as wide as the page is and their marks stay round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from robustvit.report.labels import scenario_title, sorted_levels
from robustvit.report.two_stores.verdicts import CHANCE, IDENTICAL, MOVED, difference_text, model_names_of, signed, varied_settings
from robustvit.spec.grouping import grouped
from robustvit.spec.written.words import with_spaces

_SINGLE = 40  # compared cells that have a row each; of more, a scenario has one row
_UNFOLDED = 40  # rows of scenarios in all beyond which those where nothing moved are folded
_OPEN = 80  # rows in open groups
_ROW, _LANE = 24.0, 6.0  # heights of a row of one cell, and of each further cell in it
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_ENDS = 0.9  # share of the ends of intervals that the axis reaches
_RINGS = 4  # lanes of rings, so that they hide each other less
_TICKS = 2  # on either side of 0


class ForestMark(NamedTuple):
    """A cell in a row. x, low, high: in % of its width; cut: the sides on which its interval goes on. kind: down, up, still, identical."""

    kind: str
    x: float
    y: float
    low: float
    high: float
    cut: tuple[float, ...]
    tip: str


@dataclass(frozen=True)
class ForestRow:
    """A cell, or the cells of a scenario. level: its severity, or the first and last; note: how many moved, "" for a single cell."""

    title: str
    level: str
    height: float
    marks: tuple[ForestMark, ...]
    text: str
    note: str
    kind: str
    label: str
    lane: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class ForestGroup:
    """The rows of one model. folded: those where nothing moved, where there are too many to show at once; rest: all of them in one."""

    title: str
    tags: tuple[str, ...]
    summary: str
    moved: int
    rows: tuple[ForestRow, ...]
    rest: ForestRow | None
    folded: tuple[ForestRow, ...]
    open: bool


@dataclass(frozen=True)
class ForestTick:
    """A place on the axis, in %, and its number."""

    x: float
    text: str


@dataclass(frozen=True)
class Forest:
    """The plot. single: whether each row is one cell. left_out: how many cells are not in it. kinds: of the marks that it has."""

    groups: tuple[ForestGroup, ...]
    ticks: tuple[ForestTick, ...]
    single: bool
    left_out: int
    cut: bool
    kinds: frozenset[str]
    folded: bool


class _Axis:
    """An axis in points of top-1 that has 0 in the middle."""

    def __init__(self, table: pd.DataFrame) -> None:
        ends = pd.concat([table["low"].abs(), table["high"].abs()])
        reach = max(float(table["difference"].abs().max()) * 1.05, float(ends.quantile(_ENDS)), 0.5)
        self.step = _step(reach / _TICKS)
        self.end = min(100.0, self.step * math.ceil(reach / self.step)) if self.step < 100 else 100.0

    def x(self, value: float) -> float:
        return round(50 + 50 * min(max(value / self.end, -1.0), 1.0), 2)

    def ticks(self) -> tuple[ForestTick, ...]:
        count = int(self.end / self.step + 1e-9)
        values = [self.step * place for place in range(-count, count + 1)]
        return tuple(ForestTick(self.x(value), f"{'−' if value < 0 else '+' if value > 0 else ''}{abs(value):g}") for value in values)


def forest_of(table: pd.DataFrame) -> Forest | None:
    """The plot of a table of `diff`; None where no cell has a difference, or all of them are identical."""
    known = table[table["difference"].notna()]
    if (known["verdict"] == IDENTICAL).all():
        return None
    axis, single = _Axis(known), len(known) <= _SINGLE
    named, varied = model_names_of(known), varied_settings(known)
    cells: list[Any] = list(known.itertuples())
    parts = grouped(((named[row.Index], *(str(getattr(row, name)) for name in varied)), row) for row in cells)
    made = [_group(key, varied, rows, axis, single) for key, rows in parts.items()]
    many = sum(len(one.rows) for one in made) > _UNFOLDED and not single
    groups, shown = [], 0
    for one in made:
        quiet = tuple(row for row in one.rows if row.kind != MOVED) if many else ()
        rows = tuple(row for row in one.rows if row not in quiet)
        shown += len(rows) + 1
        groups.append(replace(one, rows=rows, rest=_rest(quiet) if quiet else None, folded=quiet, open=shown <= _OPEN))
    cut = any(mark.cut for one in made for row in one.rows for mark in row.marks)
    kinds = frozenset(mark.kind for one in made for row in one.rows for mark in row.marks)
    return Forest(tuple(groups), axis.ticks(), single, len(table) - len(known), cut, kinds, any(one.folded for one in groups))


def _step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(one * power for one in _STEPS if one * power >= least * (1 - 1e-9))


def _group(key: Sequence[str], varied: Sequence[str], cells: Sequence[Any], axis: _Axis, single: bool) -> ForestGroup:
    keys = list(dict.fromkeys((cell.scenario, cell.params) for cell in cells))
    rows: list[ForestRow] = []
    for scenario in keys:
        own = [cell for cell in cells if (cell.scenario, cell.params) == scenario]
        order = sorted_levels([cell.severity for cell in own])
        own.sort(key=lambda cell: order.index(cell.severity))
        title = scenario_title(scenario, keys)
        rows += [_row(title, [cell], axis) for cell in own] if single else [_row(title, own, axis)]
    moved = sum(cell.verdict == MOVED for cell in cells)
    tags = tuple(f"seed {value}" if name == "seed" else value for name, value in zip(varied, key[1:], strict=True) if value)
    return ForestGroup(key[0], tags, f"{moved or 'none'} of {len(cells)} moved", moved, tuple(rows), None, (), True)


def _row(title: str, cells: Sequence[Any], axis: _Axis) -> ForestRow:
    marks = tuple(_mark(title, cell, axis, _ROW / 2 + _LANE * place) for place, cell in enumerate(cells))
    first, last, values = cells[0].severity, cells[-1].severity, tuple(float(cell.difference) for cell in cells)
    moved, still = sum(cell.verdict == MOVED for cell in cells), all(cell.verdict == IDENTICAL for cell in cells)
    text, note = (_difference(cells[0]), cells[0].verdict) if len(cells) == 1 else (_range(values), IDENTICAL if still else CHANCE)
    return ForestRow(
        title, first if first == last else f"{first}–{last}", _ROW + _LANE * (len(cells) - 1), marks, text,
        f"{moved} of {len(cells)} moved" if moved and len(cells) > 1 else note,
        MOVED if moved else IDENTICAL if still else "still", "; ".join(mark.tip.replace("\n", ": ") for mark in marks), _LANE, values,
    )  # fmt: skip


def _rest(rows: Sequence[ForestRow]) -> ForestRow:
    """One row for many: a ring for each cell, without its interval."""
    marks = [mark for row in rows for mark in row.marks]
    rings = tuple(mark._replace(kind="dot", y=_ROW / 2 + _LANE * (place % _RINGS)) for place, mark in enumerate(marks))
    values = [value for row in rows for value in row.values]
    title = f"{len(rows)} {'scenario' if len(rows) == 1 else 'scenarios'} where nothing moved"
    text = _range(values)
    label = f"{title}: {len(values)} cells, {text} points"
    return ForestRow(title, "", _ROW + _LANE * (_RINGS - 1), rings, text, f"{len(values)} cells", "rest", label, _LANE, tuple(values))


def _range(values: Sequence[float]) -> str:
    return signed(min(values)) if min(values) == max(values) else f"{signed(min(values))} to {signed(max(values))}"


def _difference(cell: Any) -> str:
    return "0.0" if cell.verdict == IDENTICAL else " ".join(difference_text(cell.difference, cell.low, cell.high))


def _mark(title: str, cell: Any, axis: _Axis, y: float) -> ForestMark:
    kind = {IDENTICAL: "identical", MOVED: "down" if cell.difference < 0 else "up"}.get(cell.verdict, "still")
    tip = (
        f"{title} {with_spaces(cell.severity)}".strip()
        + f"\n{cell.acc_a:.1f} → {cell.acc_b:.1f} % on {cell.n:,} images\n{_difference(cell)} points, {cell.verdict}"
    )
    if cell.verdict == IDENTICAL:
        return ForestMark(kind, axis.x(0.0), y, axis.x(0.0), axis.x(0.0), (), tip)
    cut = tuple(side for side, end in ((0.0, cell.low), (100.0, cell.high)) if abs(end) > axis.end + 1e-9)
    return ForestMark(kind, axis.x(cell.difference), y, axis.x(cell.low), axis.x(cell.high), cut, tip)
