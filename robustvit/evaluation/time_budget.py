"""The time budget of a run: how long new work may be begun."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from robustvit.errors import BadParameter

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(budget: str | float, option: str = "--budget") -> float:
    """The seconds of `90s`, `10m`, `1.5h`; a number is seconds already.

    Raises BadParameter, which names the option, for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?([smh])", budget.strip(), re.ASCII) if isinstance(budget, str) else None
    given = float(budget) if isinstance(budget, int | float) else math.nan
    length = float(match[1]) * _SECONDS[match[2]] if match else given
    if not 0.0 < length < math.inf:
        raise BadParameter(f"{option} is {budget!r}; it takes a time above nothing with its unit: 90s, 10m or 2h.")
    return length


class Deadline:
    """The moment at which a time that begins now is over; without a budget it never comes. clock: seconds, from any beginning."""

    def __init__(self, budget: str | float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.end = math.inf if budget is None else clock() + seconds(budget)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.clock() >= self.end

    @property
    def left(self) -> float | None:
        """The seconds until then, a moment at least; None where it never comes."""
        return None if self.end == math.inf else max(self.end - self.clock(), 1e-3)
