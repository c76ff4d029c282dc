"""Files of published numbers: CSV, one row for each number, checked line by line."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.errors import UsageError, nearest
from robustvit.spec import registry
from robustvit.spec.given import check_path, why_not_small
from robustvit.spec.plugin import Entry
from robustvit.spec.shipped_files import shipped_folder


@dataclass(frozen=True)
class PublishedNumber:
    """One published number. model: timm's name with its tag, or the authors'; n, img_size: None and crop_pct: NaN where they are not known.

    tolerance: how far another run under the same rules may lie, in the unit of the number; pictures: which images (`released`,
    `on-the-fly`). licence: of the source, empty where it names none.
    """

    model: str
    img_size: int | None
    crop_pct: float
    interpolation: str
    base: str
    scenario: str
    severity: str
    params: str
    metric: str
    value: float
    unit: str
    tolerance: float
    n: int | None
    pictures: str
    rules: str
    evidence: str
    source: str
    url: str
    licence: str

    @property
    def name(self) -> str:
        """What the number is: `fog 3 top1`, `mce_alexnet`."""
        return " ".join(part for part in (self.scenario, self.severity, self.metric) if part)


COLUMNS = {one.name: {"float": "float64", "int | None": "Int64"}.get(str(one.type), "str") for one in fields(PublishedNumber)}
UNITS = ("%", "fraction", "nat", "")

_LARGEST = 64 << 20  # bytes of a file
_NEEDED = ("model", "base", "metric", "value", "source")
_POSITIVE, _ANYTHING, _SIGNED = (0.0, math.inf), (-math.inf, math.inf), (-1.0, 1.0)
_LIMITS = {  # as fractions, of robustvit's own metrics that are no share between none and all
    **dict.fromkeys(("ce_alexnet", "mce_alexnet", "mfr_alexnet", "mt5d", "nll", "top5_distance", "mean_top5_distance"), _POSITIVE),
    **dict.fromkeys(("foreground_retention", "foreground_retention_top5", "background_retention", "background_retention_top5"), _POSITIVE),
    **dict.fromkeys(("accuracy_gap", "background_gap", "error_consistency", "mean_error_consistency"), _SIGNED),
    "relative_mce_alexnet": _ANYTHING, "hf_dependence": (-math.inf, 1.0), "brier": (0.0, 2.0),
}  # fmt: skip
_KEY = ("model", "img_size", "base", "scenario", "severity", "params", "metric", "pictures", "rules")  # two rows with the same contradict


def folder() -> Path:
    """Where the files are: inside the installed package, or beside it in a checkout."""
    return shipped_folder("published", "reports", "references")


def read_references(path: Path | str, name: str | None = None, *, bases: Iterable[str] = ()) -> pd.DataFrame:
    """The published numbers of one CSV file, in COLUMNS; model, base, metric, value and source are needed, other columns may be absent.

    An empty scenario is `clean`, or the average over a suite where the metric is one; an empty unit is the metric's own.
    name: what messages call the file. bases: data sets that a number may be of, besides those that `robustvit list data` names.
    Raises UsageError, with line and column, for what is missing, unknown, no number, beyond its metric's range or given twice.
    """
    title = name or str(path)
    known = sorted({*registry.entries("data"), *bases})
    if why := why_not_small(check_path(path, title), _LARGEST):
        raise UsageError(f"{title} {why}; published numbers are a file of CSV.")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{title}: cannot be read as CSV: {error}") from error
    found: list[PublishedNumber] = []
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in _lines(text, title):
        found.append(_checked(row, f"{title}:{line}", known))
        key = tuple(getattr(found[-1], column) for column in _KEY)
        if key in seen:
            number = f"{row['metric']} of {row['model']} on {row['base']}"
            raise UsageError(f"{title}:{line}: gives again what line {seen[key]} gives: {number}.")
        seen[key] = line
    return pd.DataFrame(map(vars, found), columns=list(COLUMNS)).astype(COLUMNS)


def published_numbers(table: pd.DataFrame) -> list[PublishedNumber]:
    """The rows of a table that `read_references` made."""
    rows: list[dict[str, Any]] = [
        {str(name): None if value is pd.NA else value for name, value in row.items()} for row in table.to_dict("records")
    ]
    return [PublishedNumber(**row) for row in rows]


def _lines(text: str, title: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        head = next(reader, [])
        unknown = [name for name in head if name not in COLUMNS]
        if unknown:
            raise UsageError(
                f"{title}:1: there is no column '{unknown[0]}'.{nearest(unknown[0], COLUMNS)} The columns are {', '.join(COLUMNS)}."
            )
        repeated = [name for name in head if head.count(name) > 1]
        missing = [name for name in _NEEDED if name not in head]
        if missing or repeated:
            raise UsageError(f"{title}:1: " + (f"the column '{missing[0]}' is missing." if missing else f"'{repeated[0]}' is there twice."))
        for cells in reader:
            if len(cells) != len(head):
                raise UsageError(f"{title}:{reader.line_num}: {len(cells)} values; the first line names {len(head)} columns.")
            yield reader.line_num, dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise UsageError(f"{title}:{reader.line_num}: not CSV: {error}.") from error


def _checked(row: Mapping[str, str], where: str, bases: Collection[str]) -> PublishedNumber:
    """One row with its numbers as numbers, and with the scenario and unit that empty ones stand for."""
    for name in _NEEDED:
        if not row[name].strip():
            raise UsageError(f"{where}: column '{name}' is empty.")
    texts = {name: row.get(name, "").strip() for name in COLUMNS}
    _one_of(texts, "base", where, bases)
    metric = _metric(texts["metric"], where)
    _one_of(texts, "unit", where, UNITS)
    texts["unit"] = texts["unit"] or metric.unit
    texts["scenario"] = _scenario(texts["scenario"], metric, where)
    numbers = {
        "value": _value(texts, metric, where),
        "tolerance": _number(row, "tolerance", where, 0.0, math.inf) if texts["tolerance"] else 0.0,
        "crop_pct": _number(row, "crop_pct", where, 1e-9, 1.0) if texts["crop_pct"] else math.nan,
        **{name: _whole(row, name, where) if texts[name] else None for name in ("img_size", "n")},
    }
    _one_of(texts, "evidence", where, ("authors", "third party", ""))
    return PublishedNumber(**{**texts, **numbers})  # type: ignore[arg-type]


def _metric(label: str, where: str) -> Entry:
    """The metric of `top1`, `top1(baseline=[1])` or `mt5d(*)`."""
    known = registry.entries("metric")
    name = label.partition("(")[0]
    if name not in known:
        hint = nearest(name, known) or f" It takes {', '.join(known)}."
        raise UsageError(f"{where}: column 'metric' is '{label}'; there is no such metric.{hint} `robustvit list metrics` names all.")
    return known[name]


def _scenario(name: str, metric: Entry, where: str) -> str:
    if metric.over == "model" and name:
        raise UsageError(f"{where}: column 'scenario' is '{name}'; {metric.name} is an average over a suite, of which it is empty.")
    if metric.over == "corruption" and not name:
        raise UsageError(f"{where}: column 'scenario' is empty; {metric.name} is of one corruption, whose name it takes.")
    return name or ("clean" if metric.over == "cell" else "")


def _value(row: Mapping[str, Any], metric: Entry, where: str) -> float:
    number = _number(row, "value", where, -math.inf, math.inf)
    own = metric.module.startswith("robustvit.")
    scale = 100.0 if row["unit"] == "%" else 1.0
    low, high = (scale * end for end in (_LIMITS.get(metric.name, (0.0, 1.0)) if own else _ANYTHING))
    if not low <= number <= high:
        limits = f"at least {low:g}" if math.isinf(high) else f"at most {high:g}" if math.isinf(low) else f"from {low:g} to {high:g}"
        unit = {"%": " in %", "fraction": " as a fraction"}.get(row["unit"], "")
        raise UsageError(f"{where}: column 'value' is '{row['value']}'; {metric.name}{unit} is {limits}.")
    return number


def _number(row: Mapping[str, Any], name: str, where: str, low: float, high: float) -> float:
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not (low <= number <= high and math.isfinite(number)):
        limits = (
            "a number" if math.isinf(low) else f"a number of at least {low:g}" if math.isinf(high) else f"a share above 0, up to {high:g}"
        )
        raise UsageError(f"{where}: column '{name}' is '{row[name]}'; it takes {limits}.")
    return number


def _whole(row: Mapping[str, str], name: str, where: str) -> int:
    text = row[name].strip()
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise UsageError(f"{where}: column '{name}' is '{row[name]}'; it takes a whole number from 1.")
    return int(text)


def _one_of(row: Mapping[str, Any], name: str, where: str, choices: Collection[str]) -> None:
    if row[name] not in choices:
        names = ", ".join(choice or "nothing" for choice in choices)
        raise UsageError(f"{where}: column '{name}' is '{row[name]}'.{nearest(row[name], choices)} It takes {names}.")
