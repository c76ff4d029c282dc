"""Where the levels of an axis lie: at their values where all are numbers, on a logarithmic scale where these span more than a decade."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from robustvit.report.labels import level_size

_DECADE = 10.0  # ratio of the largest to the least positive level above which an axis is logarithmic


class Spacing(NamedTuple):
    """The places of levels from 0 to 1, in their order. scale: `even`, `linear`, `log`, or `log, 0 apart` where 0 is among them."""

    places: tuple[float, ...]
    scale: str

    @property
    def note(self) -> str:
        """What an axis says of its scale: nothing where it is linear or even."""
        return {"log": "log scale", "log, 0 apart": "log scale, 0 apart"}.get(self.scale, "")


def spacing(levels: Sequence[str]) -> Spacing:
    """The spacing of levels in ascending order; even where one is no number.

    On a logarithmic scale 0 lies as far before the first positive level as levels are apart on average.
    """
    sizes = [level_size(level) for level in levels]
    if len(levels) < 2:
        return Spacing((0.5,) * len(levels), "even")
    known = [size for size in sizes if size is not None and math.isfinite(size)]
    if len(known) < len(levels) or any(b <= a for a, b in itertools.pairwise(known)):
        return Spacing(tuple(place / (len(levels) - 1) for place in range(len(levels))), "even")
    positive = [size for size in known if size > 0]
    if known[0] < 0 or len(positive) < 2 or positive[-1] <= _DECADE * positive[0]:
        return Spacing(_scaled(known), "linear")
    logs = [math.log(size) for size in positive]
    apart = len(positive) < len(known)
    start = [logs[0] - (logs[-1] - logs[0]) / (len(logs) - 1)] if apart else []
    return Spacing(_scaled([*start, *logs]), "log, 0 apart" if apart else "log")


def readable_labels(labels: Sequence[str], xs: Sequence[float], room: float) -> list[str]:
    """Labels at their places, "" for those that would overlap another; the first and the last stay. room: of a character."""
    kept = list(labels)
    if not kept:
        return kept
    end, last = -math.inf, xs[-1] - room * (len(labels[-1]) / 2 + 0.5)
    for place, (text, x) in enumerate(zip(labels, xs, strict=True)):
        half = room * len(text) / 2
        final = place == len(kept) - 1
        if not final and place and (x - half < end or x + half > last):
            kept[place] = ""
        else:
            end = x + half + room / 2
    return kept


def _scaled(values: Sequence[float]) -> tuple[float, ...]:
    low, high = values[0], values[-1]
    return tuple((value - low) / (high - low) for value in values)


def round_step(span: float) -> float:
    """A round distance between score ticks, for about six of them."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / 6))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= span / 6)


def round_numbers(left: float, right: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; three rounded numbers where the axis is too short for two of them."""
    powers = range(math.floor(left), math.ceil(right) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if left <= math.log10(factor * 10.0**power) <= right]
    if len(found) > 1:
        return found
    return [float(f"{10 ** (left + share * (right - left)):.3g}") for share in (0.15, 0.5, 0.85)]
