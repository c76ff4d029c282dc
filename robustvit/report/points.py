"""Points: the value of a leaderboard row with its interval and status, and the text that describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from robustvit.report.labels import format_number

_DEFINED = frozenset({"complete", "partial", "failed", "absent"})


@dataclass(frozen=True)
class Point:
    """One value of a curve or table. value is NaN where there is none; `status` and `note` say why, or how far it can be trusted.

    status: `complete`, `partial`, `failed`, `absent` (not evaluated), or any other text for a metric that is undefined there.
    gradients: for the robust accuracy of an attack, the gradient masking verdict; "" otherwise. rows: the labels of the rows of the
    leaderboard that it is, or is the mean of.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    status: str = "complete"
    note: str = ""
    gradients: str = ""
    rows: tuple[int, ...] = field(default=(), compare=False)

    @property
    def known(self) -> bool:
        """Whether there is a value to draw."""
        return not math.isnan(self.value)

    @property
    def doubted(self) -> bool:
        """Whether it is complete and its note says why it is marked."""
        return self.known and self.status == "complete" and bool(self.note)

    @property
    def kind(self) -> str:
        """The status where it is one of complete, partial, failed and absent; `undefined` for any other."""
        return self.status if self.status in _DEFINED else "undefined"


NOT_EVALUATED = Point(math.nan, status="absent")


def point_of(row: Any) -> Point:
    """The point of a leaderboard row."""
    index = getattr(row, "Index", None)
    rows = () if index is None else (int(index),)
    return Point(float(row.value), float(row.low), float(row.high), str(row.status), str(row.reason), str(row.gradients), rows)


def point_text(point: Point, unit: str = "%") -> str:
    """A value with its interval and caveats: `74.2 % [70.1, 78.0] (partial: 150 of 400 samples)`."""
    status = "marked" if point.doubted else "" if point.status == "complete" else point.status
    caveat = f"{status}: {point.note}" if point.note else status
    if not point.known:
        return caveat or "no value"
    gradients = f"\ngradients {point.gradients}" if point.gradients else ""
    return value_text(point, unit) + (f" ({caveat})" if caveat else "") + gradients


def stated_text(point: Point, unit: str = "%") -> str:
    """A value as sentences state it: as `value_text`, and its status where it is not complete."""
    return value_text(point, unit) + ("" if point.status == "complete" else f" ({point.status})")


def value_text(point: Point, unit: str = "%") -> str:
    """A value with its unit and interval, `74.2 % [70.1, 78.0]`; the interval is left out where it is unknown."""
    space = f"\u00a0{unit}" if unit else ""
    interval = "" if math.isnan(point.low) else f" [{format_number(point.low)},\u00a0{format_number(point.high)}]"
    return f"{format_number(point.value)}{space}{interval}"
