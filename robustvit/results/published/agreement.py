"""Published numbers beside the measured ones of a leaderboard, and whether they agree.

Published numbers ship as CSV files, one row for each: whose it is, what was measured, under which rules, how far another run under the same
rules may lie, and where it was published. `tolerance` is absolute and in the number's unit: docs/factors.md says how it was chosen.
`evidence` is `authors` where the number was read in the authors' own files, `third party` where in a copy of others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robustvit.errors import few
from robustvit.records.manifest import ModelFacts
from robustvit.results.leaderboard import BoardRow, Leaderboard
from robustvit.results.published.archives import archived
from robustvit.results.published.files import PublishedNumber, folder, published_numbers, read_references
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import with_interval
from robustvit.spec.grouping import grouped
from robustvit.spec.view import View
from robustvit.statistics.intervals import Z

BESIDE = {
    "model": "str", "tag": "str", "weights": "str", "suite": "str", "base": "str", "scenario": "str", "severity": "str", "params": "str",
    "metric": "str", "unit": "str", "measured": "float64", "low": "float64", "high": "float64", "n": "Int64", "published": "float64",
    "published_n": "Int64", "tolerance": "float64", "difference": "float64", "standard_errors": "float64", "verdict": "str", "why": "str",
    "rules": "str", "evidence": "str", "source": "str", "url": "str", "cell": "str", "repro": "str",
}  # fmt: skip

PAGE = ("model", "number", "measured", "published", "difference", "standard errors", "verdict")

UNLIKE = (
    "model not here", "other data", "other scenario", "other severity", "other metric", "measured without a value",
    "measured on a transformed model only",
)  # fmt: skip

_ANY = "(*)"  # ends the metric of a number that holds whatever parameters it was given


class Unmatched(NamedTuple):
    """How many published numbers have no measured one for a reason; what they are of, and what the leaderboard has instead."""

    reason: str
    rows: int
    wanted: tuple[str, ...]
    here: tuple[str, ...]

    def __str__(self) -> str:
        here = f"; here {few(self.here)}" if self.here else ""
        return f"{self.rows} {self.reason} ({few(self.wanted)}{here})"


def references() -> pd.DataFrame:
    """The published numbers of the CSV files that ship, one row each, in the columns of robustvit.results.published.files.

    They are those of chosen models; `all_references` has the whole tables of others too.
    """
    return pd.concat([read_references(path, path.name) for path in sorted(folder().glob("*.csv"))], ignore_index=True)


def all_references() -> pd.DataFrame:
    """Every published number that ships: the CSV files, then the archives."""
    return pd.concat([references(), archived()], ignore_index=True)


def beside(board: Leaderboard, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of a leaderboard that have a published number, in BESIDE: measured, published, their difference, and a verdict.

    published: default, all that ships. A model is known by its card (`tag_of`), never by its label; one that was transformed is another.
    `standard_errors` is the difference over the measured number's standard error, which is half of its 95 % interval over 1.96.
    verdict: `agrees`, where the difference is at most the tolerance, on the very images of the published number; on a sample of them,
    or where their number is not known, 1.96 standard errors are added. `differs` elsewhere. `other rules`, where the size, the crop, the
    images or their number are not those of the published number, so that neither can be concluded; `why` says which.
    """
    tags = _tags(board)
    table = all_references() if published is None and any(tags.values()) else references() if published is None else published
    known = grouped((one.model, one) for one in published_numbers(table[table["model"].isin(set(tags.values()))]))
    rows: list[dict[str, Any]] = []
    for row in board.measured():
        if row.transforms == "" and (tag := tags.get(row.model)):
            rows += _pairs(board, row, tag, known.get(tag, ()))
    return pd.DataFrame(rows, columns=list(BESIDE)).astype(BESIDE)


def tag_of(card: ModelFacts) -> str:
    """timm's name of the weights that a card is of, with its tag; "" for others, for random ones, and for those of a transformed model."""
    name, _, rest = card.identity.partition("(")
    parts = dict(part.partition("=")[::2] for part in rest.removesuffix(")").split(", "))
    if name != "timm" or {"weights", "surgery"} & set(parts):
        return ""
    architecture = parts.get("arch", "")
    if "." in architecture or not card.tag:
        return architecture if "." in architecture else ""
    return f"{architecture}.{card.tag}"


def unmatched(board: Leaderboard, published: pd.DataFrame | None = None) -> tuple[Unmatched, ...]:
    """Why published numbers have no measured one in a leaderboard: each number counts once, under the first of UNLIKE that sets it apart.

    published: default, all that ships.
    """
    tags = _tags(board)
    measured = board.rows.assign(model=board.rows["model"].map(lambda model: tags.get(model, "")))
    measured = measured[measured["model"] != ""]
    table = all_references() if published is None else published
    here = table["model"].isin(measured["model"])
    found = grouped((why.reason, why) for why in (_missing(measured, one) for one in published_numbers(table[here])) if why is not None)
    absent = tuple(table["model"][~here].unique())
    first = [Unmatched(UNLIKE[0], int((~here).sum()), absent, tuple(measured["model"].unique()))] if absent else []
    return (*first, *(_counted(reason, found[reason]) for reason in UNLIKE[1:] if reason in found))


def page(found: pd.DataFrame) -> pd.DataFrame:
    """The table of `beside`, as much of it as fits a page, numbers as text."""
    rows = [
        {
            "model": one["tag"],
            "number": " ".join(part for part in (one["scenario"], one["severity"], one["metric"]) if part),
            "measured": with_interval(one["measured"], one["low"], one["high"]),
            "published": f"{one['published']:g}",
            "difference": f"{one['difference']:+.2f}",
            "standard errors": "" if math.isnan(one["standard_errors"]) else f"{one['standard_errors']:+.1f}",
            "verdict": f"{one['verdict']}: {one['why']}" if one["why"] else str(one["verdict"]),
        }
        for one in found.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=list(PAGE))


def _tags(board: Leaderboard) -> dict[str, str]:
    return {model: tag_of(card) for model, card in board.cards.items()}


class _Missing(NamedTuple):
    """Why a published number has no measured one, what it is of, and what there is instead."""

    reason: str
    wanted: str
    here: list[str]


def _missing(measured: pd.DataFrame, one: PublishedNumber) -> _Missing | None:
    """What first sets a published number apart from all that was measured; None where a measured number matches it."""
    left = measured[measured["model"] == one.model]
    for reason, column in zip(UNLIKE[1:], ("base", "scenario", "severity", "metric"), strict=False):
        wanted = getattr(one, column)
        same = left[column].map(lambda here: _same_metric(one.metric, here)) if column == "metric" else left[column] == wanted
        if not same.any():
            return _Missing(reason, _named(wanted, column), [_named(here, column) for here in left[column].unique()])
        left = left[same]
    for reason, fits in zip(UNLIKE[-2:], (left["value"].notna(), left["transforms"] == ""), strict=True):
        if not fits.any():
            return _Missing(reason, one.name, [])
        left = left[fits]
    return None


def _named(value: str, column: str) -> str:
    return value or {"scenario": "an average", "severity": "without one"}.get(column, "none")


def _counted(reason: str, missing: Sequence[_Missing]) -> Unmatched:
    wanted = tuple(dict.fromkeys(one.wanted for one in missing))
    return Unmatched(reason, len(missing), wanted, tuple(dict.fromkeys(here for one in missing for here in one.here)))


class _Rules(NamedTuple):
    """Why two numbers were measured under different rules, and on how many of the published images."""

    others: list[str]
    sample: str


def _pairs(board: Leaderboard, row: BoardRow, tag: str, known: Iterable[PublishedNumber]) -> list[dict[str, Any]]:
    """A measured number beside each published number that it matches; beside those of the same rules alone, where there are any."""
    question = (row.base, row.scenario, row.severity)
    same = [one for one in known if (one.base, one.scenario, one.severity) == question and _same_metric(one.metric, row.metric)]
    candidates = [(one, _rules(board, row, one)) for one in same]
    fitting = [(one, rules) for one, rules in candidates if not rules.others]
    return [_pair(row, tag, one, rules) for one, rules in fitting or candidates]


def _same_metric(published: str, metric: str) -> bool:
    return metric == published or (published.endswith(_ANY) and metric.partition("(")[0] == published.removesuffix(_ANY))


def _rules(board: Leaderboard, row: BoardRow, one: PublishedNumber) -> _Rules:
    others = [why for view in _views(board, row) for why in _other_view(view, one)]
    others += [f"images {name}, published with {one.pictures}" for name in row.source.split(", ") if one.pictures not in ("", name)]
    others += [f"{row.params or 'no parameters'}, published with {one.params}"] if one.params not in ("", row.params) else []
    others += _built(board.cards[row.model])
    sample = ""
    if one.n is not None and row.n > one.n:
        others.append(f"{row.n} images, published on {one.n}")
    elif one.n is not None and row.n < one.n:
        sample = f"on {row.n} of {one.n} images"
    return _Rules(list(dict.fromkeys(others)), sample)


def _views(board: Leaderboard, row: BoardRow) -> list[View]:
    """The views that a row's images went through: its cell's, or those of the cells that an average is of."""
    names = [row.view]
    if not row.cell:
        cells = board.rows[(board.rows["cell"] != "") & (board.rows["scenario"] != "clean")]
        names = list(cells[(cells[list(GROUP)] == [getattr(row, name) for name in GROUP]).all(axis=1)]["view"].unique())
    return [board.views[name] for name in names if name in board.views]


def _other_view(view: View, one: PublishedNumber) -> Iterator[str]:
    """How a view is not that of a published number, as far as both are known."""
    size = min(view.shown or view.size)
    if one.img_size is not None and size != one.img_size:
        yield f"size {size}, published at {one.img_size}"
    elif one.img_size is not None and not math.isnan(one.crop_pct):
        resize = math.floor(one.img_size / one.crop_pct)
        if (view.resize, view.crop) != (resize, "center"):
            yield f"crop {size} px of {view.resize or 'the whole'} ({view.crop}), published with {size} of {resize} (center)"
    if one.interpolation not in ("", view.interpolation):
        yield f"{view.interpolation}, published with {one.interpolation}"


def _built(card: ModelFacts) -> list[str]:
    """Arguments of the constructor, which make another model of the same tag."""
    parts = card.identity.removesuffix(")").split(", ")
    arguments = [part for part in parts if part.startswith("kwargs=") and part != "kwargs="]
    return [f"built with {arguments[0]}"] if arguments else []


def _pair(row: BoardRow, tag: str, one: PublishedNumber, rules: _Rules) -> dict[str, Any]:
    scale = 100.0 if (row.unit, one.unit) == ("%", "fraction") else 0.01 if (row.unit, one.unit) == ("fraction", "%") else 1.0
    published, tolerance = scale * one.value, scale * one.tolerance
    error = (row.high - row.low) / (2 * Z)
    difference = row.value - published
    chance = Z * error if (rules.sample or one.n is None) and not math.isnan(error) else 0.0
    verdict = "other rules" if rules.others else "agrees" if abs(difference) <= tolerance + chance + 1e-9 else "differs"
    return {
        **vars(one), **vars(row), "tag": tag, "measured": row.value, "published": published, "published_n": one.n, "tolerance": tolerance,
        "difference": difference, "standard_errors": difference / error if error > 0 else math.nan, "verdict": verdict,
        "source": one.source, "why": "; ".join([*rules.others, *([rules.sample] if rules.sample else [])]),
    }  # fmt: skip
