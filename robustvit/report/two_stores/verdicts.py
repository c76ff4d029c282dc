"""What came of comparing two stores, in words: how many cells have each verdict, what moved most, and what limits the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustvit.errors import few
from robustvit.report.labels import format_number, scenario_title
from robustvit.results.paired_cells import SETTING
from robustvit.spec.grouping import grouped

MOVED, CHANCE, IDENTICAL, SKIPPED, ONLY_A, ONLY_B = "moved", "within chance", "identical", "not compared", "only in a", "only in b"
_LISTED = 5
_FINE = 5.0  # points
_MEANINGS = {
    MOVED: "One side has more samples correct than chance explains: McNemar's exact test on the samples that one side alone has correct is "
    "below 5 % after Holm's correction over all compared cells.",
    CHANCE: "The records differ, but neither side has more samples correct than chance explains, after Holm's correction; with few samples "
    "that says little, and the interval says how much.",
    IDENTICAL: "The records are bitwise the same, samples and every recorded column included.",
    SKIPPED: "Both sides have the cell, but no sample in common, or no predictions that could be right or wrong, as an analysis, the votes "
    "of a certificate and the frames of a clip have none.",
    ONLY_A: "A's runs requested the cell and B's did not.",
    ONLY_B: "B's runs requested the cell and A's did not.",
}
_BADGES = {MOVED: "bad", IDENTICAL: "good", CHANCE: "mute"}


@dataclass(frozen=True)
class VerdictCount:
    """How many cells have a verdict, and what it means. share: in % of all cells."""

    verdict: str
    name: str
    badge: str
    count: int
    share: float
    meaning: str


@dataclass(frozen=True)
class MovedCell:
    """A cell that moved: who, where, from and to what top-1, and the difference with its interval."""

    name: str
    cell: str
    before: str
    after: str
    difference: str
    worse: bool


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of a table of `diff`. moved: those that moved most; more: how many others moved. limits: what limits the comparison."""

    sentence: str
    counts: tuple[VerdictCount, ...]
    moved: tuple[MovedCell, ...]
    more: int
    limits: tuple[str, ...]


def verdicts_of(table: pd.DataFrame) -> Verdicts:
    """The verdicts of a table of `diff`, all six of them, and the cells that moved most."""
    counts = [
        VerdictCount(
            one, side_letter(one), _BADGES.get(one, "warn"), n := int((table["verdict"] == one).sum()), 100 * n / len(table), meaning
        )
        for one, meaning in _MEANINGS.items()
    ]
    moved = table[table["verdict"] == MOVED].sort_values("difference", key=lambda column: -column.abs(), kind="stable")
    names, titles = model_names_of(table), cell_names(table)
    several, shown = len(set(names.values())) > 1, list[Any](moved.head(_LISTED).itertuples())
    listed = tuple(
        MovedCell(
            names[row.Index] if several else "", titles[row.Index], format_number(row.acc_a), format_number(row.acc_b),
            " ".join(difference_text(row.difference, row.low, row.high)), row.difference < 0,
        )
        for row in shown
    )  # fmt: skip
    return Verdicts(_sentence(table), tuple(counts), listed, len(moved) - len(listed), tuple(_limits(table)))


def side_letter(verdict: str) -> str:
    """A verdict as the page writes it, whose sides are A and B."""
    return {ONLY_A: "only in A", ONLY_B: "only in B"}.get(verdict, verdict)


def signed(value: float, unit: str = "%", *, decimals: int | None = None) -> str:
    """A difference as the page writes it: `+1.5`, `−0.25`, `0.0`; in % with one decimal, or two below one point."""
    if decimals is None and unit == "%":
        decimals = 2 if 0.005 <= abs(value) < 0.995 else 1
    text = format_number(abs(value)) if decimals is None else f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def difference_text(value: float, low: float, high: float, unit: str = "%") -> tuple[str, str]:
    """A difference and its interval: `−4.2`, `[−7.1, −1.3]`; in % with two decimals where the interval is within five points."""
    decimals = (2 if max(abs(low), abs(high)) < _FINE else 1) if unit == "%" else None
    value_text, low_text, high_text = (signed(one, unit, decimals=decimals) for one in (value, low, high))
    return value_text, f"[{low_text}, {high_text}]"


def cell_names(table: pd.DataFrame) -> dict[Any, str]:
    """The scenario and severity of each row by its index, with those parameters that tell scenarios apart."""
    keys = list(dict.fromkeys(zip(table["scenario"], table["params"], strict=True)))
    columns = table[["scenario", "params", "severity"]].itertuples(name=None)
    return {index: f"{scenario_title((scenario, params), keys)} {level}".strip() for index, scenario, params, level in columns}


def model_names_of(table: pd.DataFrame) -> dict[Any, str]:
    """The model of each row by its index, with its transforms."""
    columns = table[["model", "transforms"]].itertuples(name=None)
    return {index: f"{model} → {transforms}" if transforms else str(model) for index, model, transforms in columns}


def varied_settings(table: pd.DataFrame) -> list[str]:
    """What varies in a table besides model and scenario: suite, data, seed, …"""
    names = ["suite", *(name for name in SETTING if name not in ("transforms", "scenario", "severity", "params"))]
    return [name for name in names if table[name].nunique() > 1]


def _sentence(table: pd.DataFrame) -> str:
    compared, moved = table[~table["verdict"].isin((SKIPPED, ONLY_A, ONLY_B))], int((table["verdict"] == MOVED).sum())
    n = len(compared)
    if not n:
        return "No cell can be compared."
    if moved:
        down = int((compared.loc[compared["verdict"] == MOVED, "difference"] < 0).sum())
        where = f"{down} down, {moved - down} up" if 0 < down < moved else "down" if down else "up"
        return f"{moved:,} of {n:,} compared cell{'s' * (n > 1)} moved, {where}."
    if (compared["verdict"] == IDENTICAL).all():
        return f"All {n:,} compared cells are identical." if n > 1 else "The compared cell is identical."
    changed = int(compared["changed"].sum())
    what = f"{changed:,} prediction{'s' * (changed > 1)} changed" if changed else "no prediction changed"
    return f"No cell moved beyond chance; {what} in {n:,} compared cell{'s' * (n > 1)}."


def _limits(table: pd.DataFrame) -> list[str]:
    """What limits the comparison, each once with the cells that it holds for."""
    names = cell_names(table)
    found = []
    for column, before in (("across", "matched across "), ("partial", "")):
        for text, rows in grouped((str(text), names[index]) for index, text in table[column].items() if text).items():
            found.append(f"{_some(rows, len(table))}: {before}{text}")
    return found


def _some(names: Sequence[str], of: int) -> str:
    return "every cell" if len(names) == of else few(list(dict.fromkeys(names)))
