"""All rows of the leaderboard, packed for the page's script: repeated text is stored once, constant columns apart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

_FIRST = ("model", "suite", "data", "scenario", "severity", "metric", "value", "low", "high", "n", "status", "reason", "seconds")
_ALWAYS = ("scenario", "metric", "value", "low", "high", "n", "status")
_TYPED = ("value", "low", "high", "n", "seconds", "seed")


@dataclass(frozen=True)
class Numbers:
    """The packed table. json: safe inside a script element; same: (column, value) of constant columns; filters: (column, its values)."""

    json: Markup
    rows: int
    same: tuple[tuple[str, str], ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...]


def numbers(board: pd.DataFrame) -> Numbers:
    """Packs a leaderboard: columns that vary, the most important first, and the choices of the filters."""
    same = [name for name in board.columns if name not in _ALWAYS and board[name].nunique(dropna=False) <= 1]
    columns = [name for name in (*_FIRST, *(other for other in board.columns if other not in _FIRST)) if name not in same]
    packed = {
        "columns": columns,
        "all": list(board.columns),
        "same": {name: _first(board, name) for name in same},
        "data": [_packed(board[name]) for name in columns],
    }
    choices = {name: [str(value) for value in board[name].unique() if str(value)] for name in ("suite", "model", "metric", "status")}
    filters = tuple((name, tuple(texts)) for name, texts in choices.items() if len(texts) > 1)
    shown = tuple((name, str(_first(board, name))) for name in same if _first(board, name) not in ("", None))
    return Numbers(Markup(script_json(packed)), len(board), shown, filters)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(column: pd.Series) -> dict[str, Any]:
    """{"v": values} of numbers, or {"t": texts, "i": indices} of text."""
    if column.name in _TYPED:
        return {"v": [_plain(value) for value in column]}
    texts = list(dict.fromkeys(str(value) for value in column))
    places = {text: i for i, text in enumerate(texts)}
    return {"t": texts, "i": [places[str(value)] for value in column]}


def _plain(value: Any) -> float | int | None:
    number = float(value)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.6g}")


def _first(board: pd.DataFrame, name: str) -> Any:
    if not len(board):
        return ""
    value = board[name].iloc[0]
    return _plain(value) if name in _TYPED else str(value)
