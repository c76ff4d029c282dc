"""Published numbers, and a leaderboard beside them.

What others published ships as CSV files, one row for each number: whose it is, what was asked, the rules it was asked under, how far another
run under the same rules may lie, and where it stands. `tolerance` is absolute and in the number's unit: docs/factors.md says how it was chosen.
`evidence` is `authors` where the number was read in the authors' own files, `third party` where in a copy of others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robustvit.errors import UsageError, few
from robustvit.results.published.files import folder, read_references
from robustvit.results.summary import shown
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

_ANY = "(*)"  # ends the metric of a number that stands whatever parameters it was given


class Unmatched(NamedTuple):
    """How many published numbers have no measured one for a reason; what they are of, and what of that there is here."""

    reason: str
    rows: int
    asked: tuple[str, ...]
    here: tuple[str, ...]

    def __str__(self) -> str:
        here = f"; here {few(self.here)}" if self.here else ""
        return f"{self.rows} {self.reason} ({few(self.asked)}{here})"


def references() -> pd.DataFrame:
    """Every published number that ships with robustvit, one row each, in the columns of robustvit.results.published.files."""
    return pd.concat([read_references(path, path.name) for path in sorted(folder().glob("*.csv"))], ignore_index=True)


def beside(board: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of a leaderboard that have a published number, in BESIDE: measured, published, their difference, and a verdict.

    published: default, what ships. A model is known by its card (`tag_of`), never by its label; one that was transformed is another model.
    `standard_errors` is the difference over the measured number's standard error, which is half of its 95 % interval over 1.96.
    verdict: `agrees`, where the difference is at most the tolerance, on the very pictures of the published number; on a sample of them,
    or where their number is not told, 1.96 standard errors are added. `differs` elsewhere. `other rules`, where the size, the crop, the
    pictures or their number are not those of the published number, so that neither can be said; `why` tells which.
    Raises UsageError for a board that does not know its models' cards: one that `leaderboard` made does.
    """
    known = references() if published is None else published
    tags = _tags(board)
    known = known[known["model"].isin(list(tags.values()))]
    rows: list[dict[str, Any]] = []
    for row in _records(board[board["value"].notna() & (board["transforms"] == "")]):
        tag = tags.get(row["model"], "")
        rows += _pairs(board, row, tag, known[known["model"] == tag]) if tag else []
    return pd.DataFrame(rows, columns=list(BESIDE)).astype(BESIDE)


def tag_of(card: Mapping[str, Any]) -> str:
    """timm's name of the weights that a card is of, with its tag; "" for others, and for random ones."""
    name, _, rest = str(card.get("identity", "")).partition("(")
    parts = dict(part.partition("=")[::2] for part in rest.removesuffix(")").split(", "))
    if name != "timm" or "weights" in parts:
        return ""
    architecture, tag = parts.get("arch", ""), str(card.get("tag", ""))
    if "." in architecture or not tag:
        return architecture if "." in architecture else ""
    return f"{architecture}.{tag}"


def unmatched(board: pd.DataFrame, published: pd.DataFrame | None = None) -> tuple[Unmatched, ...]:
    """Why published numbers have no measured one in a leaderboard: each number counts once, under the first of UNLIKE that sets it apart.

    published: default, what ships. Raises UsageError for a board that does not know its models' cards.
    """
    known = references() if published is None else published
    tags = _tags(board)
    measured = board.assign(model=board["model"].map(lambda model: tags.get(model, "")))
    measured = measured[measured["model"] != ""]
    found: dict[str, list[_Missing]] = {}
    for one in _records(known):
        why = _missing(measured, one)
        if why is not None:
            found.setdefault(why.reason, []).append(why)
    return tuple(_counted(reason, found[reason]) for reason in UNLIKE if reason in found)


def page(found: pd.DataFrame) -> pd.DataFrame:
    """What `beside` found, as much of it as a page holds, numbers as text."""
    return pd.DataFrame([_told(one) for one in _records(found)], columns=list(PAGE))


def _told(one: Mapping[str, Any]) -> dict[str, str]:
    """A pair as a line of a page."""
    return {
        "model": one["tag"],
        "number": " ".join(part for part in (one["scenario"], one["severity"], one["metric"]) if part),
        "measured": shown(one["measured"], one["low"], one["high"]),
        "published": f"{one['published']:g}",
        "difference": f"{one['difference']:+.2f}",
        "standard errors": "" if math.isnan(one["standard_errors"]) else f"{one['standard_errors']:+.1f}",
        "verdict": f"{one['verdict']}: {one['why']}" if one["why"] else str(one["verdict"]),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _tags(board: pd.DataFrame) -> dict[str, str]:
    if "models" not in board.attrs:
        raise UsageError("this leaderboard does not tell its models' cards; make it with robustvit.leaderboard(STORE).")
    return {model: tag_of(card) for model, card in board.attrs["models"].items()}


class _Missing(NamedTuple):
    """Why a published number has no measured one, what it is of, and what there is instead."""

    reason: str
    asked: str
    here: list[str]


def _missing(measured: pd.DataFrame, one: Mapping[str, Any]) -> _Missing | None:
    """What first sets a published number apart from all that was measured; nothing where one measured number is of its question."""
    left = measured
    for reason, column in zip(UNLIKE, ("model", "base", "scenario", "severity", "metric"), strict=False):
        same = left[column].map(lambda here: _asks(one["metric"], here)) if column == "metric" else left[column] == one[column]
        if not same.any():
            return _Missing(reason, _spoken(one[column], column), [_spoken(here, column) for here in left[column].unique()])
        left = left[same]
    for reason, fits in zip(UNLIKE[-2:], (left["value"].notna(), left["transforms"] == ""), strict=True):
        if not fits.any():
            return _Missing(reason, " ".join(part for part in (one["scenario"], one["severity"], one["metric"]) if part), [])
        left = left[fits]
    return None


def _spoken(value: str, column: str) -> str:
    return value or {"scenario": "an average", "severity": "without one"}.get(column, "none")


def _counted(reason: str, missing: Sequence[_Missing]) -> Unmatched:
    asked = tuple(dict.fromkeys(one.asked for one in missing))
    return Unmatched(reason, len(missing), asked, tuple(dict.fromkeys(here for one in missing for here in one.here)))


class _Rules(NamedTuple):
    """Why two numbers are not answers to one question, and what else is to be said of the pair."""

    others: list[str]
    sample: str


def _pairs(board: pd.DataFrame, row: Mapping[str, Any], tag: str, known: pd.DataFrame) -> list[dict[str, Any]]:
    """A measured number beside each published number of the same question; beside those of the same rules alone, where there are any."""
    same = known[(known["base"] == row["base"]) & (known["scenario"] == row["scenario"]) & (known["severity"] == row["severity"])]
    same = same[[_asks(metric, row["metric"]) for metric in same["metric"]]]
    candidates = [(one, _rules(board, row, one)) for one in _records(same)]
    fitting = [(one, rules) for one, rules in candidates if not rules.others]
    return [_pair(row, tag, one, rules) for one, rules in fitting or candidates]


def _asks(published: str, metric: str) -> bool:
    return metric == published or (published.endswith(_ANY) and metric.partition("(")[0] == published.removesuffix(_ANY))


def _rules(board: pd.DataFrame, row: Mapping[str, Any], one: Mapping[str, Any]) -> _Rules:
    others = [why for view in _views(board, row) for why in _other_view(view, one)]
    others += [
        f"pictures {name}, published of {one['pictures']}" for name in row["source"].split(", ") if one["pictures"] not in ("", name)
    ]
    others += [f"{row['params']}, published with {one['params']}"] if one["params"] not in ("", row["params"]) else []
    others += _built(board.attrs["models"][row["model"]])
    sample = ""
    if not pd.isna(one["n"]) and row["n"] > one["n"]:
        others.append(f"{row['n']} images, published on {one['n']}")
    elif not pd.isna(one["n"]) and row["n"] < one["n"]:
        sample = f"on {row['n']} of {one['n']} images"
    return _Rules(list(dict.fromkeys(others)), sample)


def _views(board: pd.DataFrame, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The views that a row's pictures went through: its cell's, or those of the cells that an average is of."""
    group = ["model", "transforms", "suite", "base", "seed", "precision", "model_view", "storage"]
    told = [row["view"]]
    if not row["cell"]:
        cells = board[board["cell"] != ""]
        told = list(cells[(cells[group] == [row[name] for name in group]).all(axis=1) & (cells["scenario"] != "clean")]["view"].unique())
    return [board.attrs["views"].get(name, {}) for name in told]


def _other_view(view: Mapping[str, Any], one: Mapping[str, Any]) -> Iterator[str]:
    """How a view is not that of a published number, as far as both are told."""
    size = min(view.get("shown") or view.get("size") or [0])
    if size and not pd.isna(one["img_size"]) and size != one["img_size"]:
        yield f"size {size}, published at {one['img_size']}"
    elif size and not pd.isna(one["img_size"]) and not math.isnan(one["crop_pct"]):
        resize = math.floor(int(one["img_size"]) / one["crop_pct"])
        if (view.get("resize"), view.get("crop")) != (resize, "center"):
            yield f"crop {size} px of {view.get('resize') or 'the whole'} ({view.get('crop')}), published with {size} of {resize} (center)"
    if one["interpolation"] not in ("", view.get("interpolation", one["interpolation"])):
        yield f"{view['interpolation']}, published with {one['interpolation']}"


def _built(card: Mapping[str, Any]) -> list[str]:
    """Arguments of the constructor, which make another model of the same tag."""
    arguments = [
        part for part in str(card.get("identity", "")).removesuffix(")").split(", ") if part.startswith("kwargs=") and part != "kwargs="
    ]
    return [f"built with {arguments[0]}"] if arguments else []


def _pair(row: Mapping[str, Any], tag: str, one: Mapping[str, Any], rules: _Rules) -> dict[str, Any]:
    scale = 100.0 if (row["unit"], one["unit"]) == ("%", "fraction") else 0.01 if (row["unit"], one["unit"]) == ("fraction", "%") else 1.0
    published, tolerance = scale * one["value"], scale * one["tolerance"]
    error = (row["high"] - row["low"]) / (2 * Z)
    difference = row["value"] - published
    chance = Z * error if (rules.sample or pd.isna(one["n"])) and not math.isnan(error) else 0.0
    verdict = "other rules" if rules.others else "agrees" if abs(difference) <= tolerance + chance + 1e-9 else "differs"
    return {
        **{name: row[name] for name in ("model", "weights", "suite", "base", "scenario", "severity", "params", "metric", "unit", "low", "high", "n", "cell", "repro")},
        **{name: one[name] for name in ("rules", "evidence", "source", "url")},
        "tag": tag, "measured": row["value"], "published": published, "published_n": one["n"], "tolerance": tolerance, "difference": difference,
        "standard_errors": difference / error if error > 0 else math.nan, "verdict": verdict,
        "why": "; ".join([*rules.others, *([rules.sample] if rules.sample else [])]),
    }  # fmt: skip
