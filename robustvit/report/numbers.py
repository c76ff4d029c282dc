"""All rows of the leaderboard, packed for the page's script: repeated text is stored once, constant columns apart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup


@dataclass(frozen=True)
class Numbers:
    """The packed table. json: safe inside a script element; same: (column, value) of constant columns; filters: (column, its values)."""

    json: Markup
    rows: int
    same: tuple[tuple[str, str], ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class TableColumns:
    """What is known of a table's columns: those that come first, are always shown, are numbers, and are filtered by."""

    first: tuple[str, ...]
    always: tuple[str, ...]
    numeric: tuple[str, ...]
    filters: tuple[str, ...]


_BOARD = TableColumns(
    ("model", "suite", "data", "scenario", "severity", "metric", "value", "low", "high", "n", "status", "reason", "seconds"),
    ("scenario", "metric", "value", "low", "high", "n", "status"),
    ("value", "low", "high", "n", "seconds", "seed"),
    ("suite", "model", "metric", "status"),
)


def numbers(board: pd.DataFrame) -> Numbers:
    """Packs a leaderboard: columns that vary, the most important first, and the choices of the filters."""
    return packed_table(board, _BOARD)


def packed_table(table: pd.DataFrame, about: TableColumns, **more: Any) -> Numbers:
    """Packs any table whose other columns are text. more: what else the page's script reads of it.

    That is `titles` and `decimals` of columns by their names, `badges`, the class of a value of a column, and `file`, its name as CSV.
    """
    same = [name for name in table.columns if name not in about.always and table[name].nunique(dropna=False) <= 1]
    columns = [name for name in (*about.first, *(other for other in table.columns if other not in about.first)) if name not in same]
    packed = {
        "columns": columns,
        "all": list(table.columns),
        "same": {name: _first(table, name, about) for name in same},
        "data": [_packed(table[name], name in about.numeric) for name in columns],
        **more,
    }
    choices = {name: [str(value) for value in table[name].unique() if str(value)] for name in about.filters}
    filters = tuple((name, tuple(texts)) for name, texts in choices.items() if len(texts) > 1)
    shown = tuple((name, str(_first(table, name, about))) for name in same if _first(table, name, about) not in ("", None))
    return Numbers(Markup(script_json(packed)), len(table), shown, filters)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(column: pd.Series, numeric: bool) -> dict[str, Any]:
    """{"v": values} of numbers, or {"t": texts, "i": indices} of text."""
    if numeric:
        return {"v": [_plain(value) for value in column]}
    texts = list(dict.fromkeys(str(value) for value in column))
    places = {text: i for i, text in enumerate(texts)}
    return {"t": texts, "i": [places[str(value)] for value in column]}


def _plain(value: Any) -> float | int | None:
    number = float(value)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.6g}")


def _first(table: pd.DataFrame, name: str, about: TableColumns) -> Any:
    if not len(table):
        return ""
    value = table[name].iloc[0]
    return _plain(value) if name in about.numeric else str(value)
