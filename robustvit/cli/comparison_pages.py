"""Comparisons as tables that fit a terminal: what is the same in every row is a line, what varies beside the scenario a table for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from robustvit.errors import few
from robustvit.results.summary import scenario_names, with_interval
from robustvit.results.table_formats import Page

_SETTINGS = ("model", "suite", "data", "transforms", "seed", "precision", "storage")
_SHORT = {"no difference shown": "–"}  # verdicts as tables have them
_LONGEST = 14  # letters of a verdict in a table; a longer one is told below it
_SMALLEST = 0.001  # p-values are not written below it
_NARROW = 12  # letters that the names of scenarios have at least


class Comparison(NamedTuple):
    """Tables, with a line above them that says what holds for every row, and lines below."""

    same: str
    pages: list[Page]
    notes: list[str]


def comparison_pages(frame: pd.DataFrame) -> Comparison:
    """The tables of `compare` or `diff`: accuracies, their difference with its interval, p (Holm) and verdict, a row for each scenario."""
    change = "b − a" if "changed" in frame else "a − b"
    pages = []
    for title, part in _parts(frame):
        columns: dict[str, list[str]] = {
            "scenario": scenario_names(part),
            "n": [str(count) for count in part["n"]],
            "a": [_number(value) for value in part["acc_a"]],
            "b": [_number(value) for value in part["acc_b"]],
            change: [_difference(*row) for row in part[["difference", "low", "high"]].itertuples(index=False)],
            "p": [_p_value(value) for value in part["p_holm"]],
            "verdict": [_verdict(text) for text in part["verdict"]],
        }
        shown = {name: texts for name, texts in columns.items() if any(texts) and (name != "n" or part["n"].nunique() > 1)}
        pages.append(Page(" · ".join(filter(None, (title, _count(part)))), pd.DataFrame(shown)))
    return Comparison(_same(frame), pages, [*_long_verdicts(frame), *_partial(frame), *_across(frame)])


def flip_pages(frame: pd.DataFrame) -> Comparison:
    """The samples on which two models differ: a table for each scenario."""
    pages = []
    for title, part in _parts(frame):
        names = pd.Series(scenario_names(part), index=part.index)
        for name, rows in part.groupby(names, sort=False):
            table = rows[["sample", "label", "pred_a", "pred_b"]].map(str).rename(columns={"pred_a": "a", "pred_b": "b"})
            pages.append(Page(" · ".join(filter(None, (title, f"{name}: {len(rows)}"))), table))
    return Comparison(_same(frame), pages, _partial(frame))


def folded(page: Page, width: int) -> Page:
    """The page with its first column broken after `_`, `,` and spaces, so that all of it is at most `width` wide where that can be."""
    first, *others = page.table.columns
    taken = sum(3 + max(map(len, (name, *page.table[name]))) for name in others)
    free = max(_NARROW, width - taken - 4)
    texts = page.table[first].map(lambda text: _fold(text, free))
    return page._replace(table=page.table.assign(**{str(first): texts}))


def _fold(text: str, width: int) -> str:
    lines = [""]
    for word in re.findall(r"[^_, ]+[_, ]*|[_, ]+", text):
        if len(lines[-1]) + len(word.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip(" ") for line in lines)


def _parts(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each setting that varies, with its values for a title."""
    varied = [name for name in _SETTINGS if name in frame and frame[name].nunique(dropna=False) > 1]
    if not varied:
        yield "", frame
        return
    for key, part in frame.groupby(varied, sort=False, dropna=False):
        yield " · ".join(_setting(name, value) for name, value in zip(varied, key, strict=True) if str(value)), part


def _setting(name: str, value: object) -> str:
    return f"seed {value}" if name == "seed" else str(value)


def _same(frame: pd.DataFrame) -> str:
    """The settings that are the same in every row."""
    names = [name for name in _SETTINGS if name in frame and frame[name].nunique(dropna=False) == 1]
    return ", ".join(_setting(name, frame[name].iloc[0]) for name in names if str(frame[name].iloc[0]))


def _count(part: pd.DataFrame) -> str:
    """How many samples each row has, where that is one number."""
    return f"{part['n'].iloc[0]:,} samples each" if part["n"].nunique() == 1 and part["n"].iloc[0] else ""


def _difference(value: float, low: float, high: float) -> str:
    return "" if pd.isna(value) else with_interval(value, low, high)


def _verdict(text: str) -> str:
    return _SHORT.get(text, text if len(text) <= _LONGEST else "see below")


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"


def _p_value(value: float) -> str:
    return "" if pd.isna(value) else "<0.001" if value < _SMALLEST else f"{value:.3f}"


def _long_verdicts(frame: pd.DataFrame) -> list[str]:
    """Verdicts that are sentences, each once, with the scenarios that have them."""
    return _reasons(frame, "verdict", frame["verdict"].map(lambda text: len(text) > _LONGEST and text not in _SHORT))


def _partial(frame: pd.DataFrame) -> list[str]:
    """What is missing of cells, each once, with the scenarios that have it."""
    return _reasons(frame, "partial", frame["partial"] != "")


def _across(frame: pd.DataFrame) -> list[str]:
    """What of seed, precision and storage differs between the two stores."""
    return _reasons(frame, "across", frame["across"] != "") if "across" in frame else []


def _reasons(frame: pd.DataFrame, column: str, chosen: pd.Series) -> list[str]:
    """The texts of a column in some rows, each once, behind the scenarios that have it."""
    names = pd.Series(scenario_names(frame), index=frame.index, dtype=object)
    found = frame[chosen.astype(bool)].groupby(column, sort=False)
    return [f"{'all' if len(rows) == len(frame) else few(list(names[rows.index].unique()))}: {text}" for text, rows in found]
