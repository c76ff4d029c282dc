"""Labels: how numbers, plug-in names, scenarios and severity levels are written on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from robustvit.results.parameters import differing_parameters
from robustvit.spec import registry
from robustvit.spec.plugin import Entry
from robustvit.spec.written.words import metric_heading, with_spaces


def format_number(value: float) -> str:
    """A number as tables print it: one decimal from 1 upwards, three significant digits below; "" for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def metric_tip(label: str) -> str:
    """The tooltip of a metric: its identifier, and the first line of what it says of itself; "" where it is none."""
    entry = _metric(label)
    if entry is None:
        return ""
    known = label.partition("(")[0] == entry.name
    return f"{label if known else entry.name}\n{entry.summary}"


def scenario_title(key: tuple[str, str], keys: Iterable[tuple[str, str]]) -> str:
    """The name of a scenario, with those parameters that tell it from others of that name in `keys`. key: (scenario, parameters)."""
    scenario, params = key
    differing = differing_parameters(params, [other for name, other in keys if name == scenario])
    return f"{with_spaces(scenario)} ({differing})" if differing else with_spaces(scenario)


def sorted_levels(levels: Sequence[str]) -> list[str]:
    """The distinct levels by size where all are numbers (`3`, `0.5/255`), else in the order given."""
    distinct = list(dict.fromkeys(levels))
    sizes = [level_size(level) for level in distinct]
    if any(size is None for size in sizes):
        return distinct
    return [level for _, level in sorted(zip(sizes, distinct, strict=True), key=lambda pair: pair[0] or 0)]


def level_size(level: str) -> float | None:
    """The number that a level is (`3`, `0.5/255`); None for any other text."""
    try:
        numerator, _, denominator = level.partition("/")
        return float(Fraction(numerator) / Fraction(denominator or 1))
    except (ValueError, ZeroDivisionError):
        return None


def shorten_levels(levels: Sequence[str]) -> tuple[list[str], str]:
    """Levels without the denominator that all of them (0 aside) share, and that scale: `["0", "1/255"]` gives `["0", "1"]`, `1/255`."""
    denominators = {level.partition("/")[2] for level in levels if level != "0"}
    if len(denominators) != 1 or not (shared := denominators.pop()):
        return list(levels), ""
    return [level.partition("/")[0] for level in levels], f"1/{shared}"


def _metric(label: str) -> Entry | None:
    """The metric of a label, or of its heading in a table."""
    every, name = registry.entries("metric"), label.partition("(")[0]
    return every.get(name) or next((entry for other, entry in every.items() if metric_heading(other) == name.strip()), None)
