"""The factor view: one row for each model, with how it was trained, what it costs, and how robust it is.

Of a leaderboard, or of the published numbers. A score is an accuracy (`clean`, `imagenet-a`, `pgd 4/255`, `imagenet-a top1_1000way`,
`background_challenge challenge_accuracy`) or an average over a model's cells (`mce_alexnet`), in %, with the ends of its 95 % interval in
`NAME_low` and `NAME_high`. A number of a cell that is not finished is no score: `NAME_partial` says what is missing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd

from robustvit.errors import UsageError, nearest
from robustvit.records.manifest import ModelFacts
from robustvit.results.factors.weight_names import UNKNOWN, Factors, factors, size_in
from robustvit.results.leaderboard import BoardRow, Leaderboard
from robustvit.results.parameters import parsed_parameters
from robustvit.results.published.agreement import references, tag_of
from robustvit.results.published.files import PublishedNumber, folder, published_numbers
from robustvit.spec.grouping import grouped
from robustvit.statistics.estimates import of_measurements
from robustvit.statistics.intervals import Interval, wilson

FACTORS = tuple(one.name for one in fields(Factors))
COSTS = {
    "macs": (1e9, "GMACs per image"), "parameters": (1e6, "million parameters"), "weight_bytes": (2.0**20, "MiB of weights"),
    "moved_bytes": (2.0**20, "MiB moved per image"), "peak_bytes": (2.0**20, "MiB of activations at once"),
    "latency": (1e-3, "ms per image"),
}  # fmt: skip
"""The costs of a model, in the order in which a figure prefers them, with their unit."""
CLEAN = "clean"

_TEXTS = ("model", "tag", "base", "family", "kind", "pretraining", "fine_tuned", "recipe", "augmentation", "transforms", "transform")
_COLUMNS = ("model", "tag", *FACTORS, "img_size", *COSTS)
_ONE = ("model", "transforms", "base", "seed", "precision", "model_view", "storage")  # what makes one row another
_OWN = ("top1", "robust_accuracy")  # metrics that a score's name leaves out
_WORST = "worst_case_accuracy"
_READINGS = ("top1_1000way", "top1_real")


@dataclass(frozen=True)
class FactorView:
    """The table, one row for each model, and its scores: by name, whether higher is better. places: of a row and a score, by their
    labels, the label of the row of the leaderboard that it is.
    """

    rows: pd.DataFrame
    scores: Mapping[str, bool]
    places: Mapping[tuple[Any, str], int] = field(default_factory=dict)

    def need(self, score: str) -> str:
        """The name of a score that is here. Raises UsageError, with the nearest names, for another."""
        if score not in self.scores:
            known = ", ".join(self.scores) or "none"
            raise UsageError(f"no model here has a number called '{score}'.{nearest(score, self.scores)} There are {known}.")
        return score

    def missing(self, row: Mapping[Hashable, Any], name: str) -> str:
        """Why a model, one of `rows`, has no number of that name: its cell is partial, or there is none; "" where it has one."""
        partial = str(row.get(f"{name}_partial", ""))
        return f"{name} is partial: {partial}" if partial else f"no {name}" if pd.isna(row[name]) else ""


@dataclass(frozen=True)
class _Score:
    """partial: what is missing of its cell, which then has no value here. place: the label of its row of a leaderboard."""

    value: float
    interval: Interval | None
    higher_is_better: bool
    partial: str = ""
    place: int | None = None


@dataclass(frozen=True)
class _Model:
    """One row of a factor view. img_size: None where it is not known. costs: those of COSTS that are known."""

    model: str
    tag: str
    base: str
    factors: Factors
    img_size: int | None
    costs: Mapping[str, float | None]
    scores: Mapping[str, _Score]
    transforms: str = ""

    @property
    def transform(self) -> str:
        """The names of its transforms without their settings; "none" where it has none."""
        return " → ".join(step.partition("(")[0] for step in self.transforms.split(" → ")) or "none"

    def row(self) -> dict[str, Any]:
        """The values by column."""
        ends = {
            f"{name}_{end}": value for name, one in self.scores.items() if one.interval for end, value in one.interval._asdict().items()
        }
        partial = {f"{name}_partial": one.partial for name, one in self.scores.items() if one.partial}
        costs = {name: self.costs.get(name) for name in COSTS}
        return {
            **vars(self),
            "transform": self.transform,
            **costs,
            **vars(self.factors),
            **{name: one.value for name, one in self.scores.items()},
            **ends,
            **partial,
        }


def factor_view(board: Leaderboard | None = None) -> FactorView:
    """One row per model: factors, parameters, MACs of an image, and its scores.

    board: default, the published numbers that ship, of which the view holds the models whose weights timm names and whose clean top-1 is
    known. Intervals of published accuracies are Wilson's, of their number of images.
    """
    models = list(_of_references(references()) if board is None else _of_board(board))
    scores = {name: one.higher_is_better for model in models for name, one in model.scores.items()}
    partial = [f"{name}_partial" for name in scores if any(name in model.scores and model.scores[name].partial for model in models)]
    columns = [
        *_COLUMNS,
        *([] if board is None else ["base", "transforms", "transform"]),
        *(f"{name}{end}" for name in scores for end in ("", "_low", "_high")),
    ]
    rows = pd.DataFrame([model.row() for model in models], columns=[*columns, *partial]).fillna(dict.fromkeys(partial, ""))
    texts = {*_TEXTS, *partial}
    places = {(at, name): one.place for at, model in enumerate(models) for name, one in model.scores.items() if one.place is not None}
    return FactorView(rows.astype({name: "str" if name in texts else "float64" for name in rows}), scores, places)


def _of_references(published: pd.DataFrame) -> Iterator[_Model]:
    table = pd.read_csv(folder() / "models" / "costs.csv")
    costs: dict[Any, Any] = {(row.model, row.img_size): {"parameters": row.parameters, "macs": row.macs} for row in table.itertuples()}
    groups: dict[tuple[str, int], dict[str, PublishedNumber]] = {}
    for one in published_numbers(published):
        if one.base == "imagenet" and one.unit == "%" and one.severity == "" and one.img_size is not None:
            groups.setdefault((one.model, one.img_size), {})[_score_name(one)] = one
    for (model, size), numbers in groups.items():
        known = factors(model)
        if known.family == UNKNOWN or CLEAN not in numbers or numbers[CLEAN].n is None:
            continue
        scores = {name: _published_score(one) for name, one in numbers.items()}
        yield _Model(model, model, "imagenet", known, size, costs.get((model, size), {}), scores)


def _published_score(one: PublishedNumber) -> _Score:
    """A published number, with Wilson's interval where it is an accuracy on a known number of images."""
    higher = not one.metric.startswith(("mce", "mfr", "mt5d"))
    if one.n is None or not one.metric.startswith("top1"):
        return _Score(one.value, None, higher)
    low, high = wilson(one.value / 100 * one.n, one.n)
    return _Score(one.value, Interval(100 * low, 100 * high), higher)


def _of_board(board: Leaderboard) -> Iterator[_Model]:
    places = board.rows.index[board.rows["value"].notna()]
    rows = [(int(place), row) for place, row in zip(places, board.measured(), strict=True) if _is_score(row)]
    named = zip(_names([row for _, row in rows]), rows, strict=True)
    groups = grouped((tuple(getattr(row, key) for key in _ONE), (name, place, row)) for name, (place, row) in named)
    for part in groups.values():
        yield _of_model(board, part)


def _is_score(row: BoardRow) -> bool:
    """Whether a row is a score: an accuracy without a severity, under attack or of an analysis, or an average over all cells."""
    if row.unit != "%" or row.metric == "":
        return False
    if row.cell == "":
        return row.scenario == "" or row.metric == _WORST
    own = row.metric in ("top1", *_READINGS) or of_measurements(row.metric)
    return row.metric == "robust_accuracy" or (row.severity == "" and own)


def _names(rows: list[BoardRow]) -> list[str]:
    """Each row's score, with the parameters in which rows of one score differ, whatever their models: a column is of one question.

    And with its suite, where one model still has several numbers of the name.
    """
    names = [_score_name(row) for row in rows]
    own = [parsed_parameters(row.params) if row.cell else {} for row in rows]  # what a worst case stands on is told there
    alike = grouped(zip(names, own, strict=True))
    varied = {name: [key for key in dict.fromkeys(itertools.chain(*some)) if len({one.get(key) for one in some}) > 1]
              for name, some in alike.items()}  # fmt: skip
    names = [_with(name, [f"{key}={one[key]}" for key in varied[name] if key in one]) for name, one in zip(names, own, strict=True)]
    several = _ambiguous(rows, names)
    return [_with(name, [row.suite]) if name in several else name for name, row in zip(names, rows, strict=True)]


def _with(name: str, more: Sequence[str]) -> str:
    return f"{name} ({', '.join(more)})" if any(more) else name


def _ambiguous(rows: list[BoardRow], names: Iterable[str]) -> set[str]:
    found: dict[tuple[Any, ...], set[float]] = {}
    for row, name in zip(rows, names, strict=True):
        found.setdefault((name, *(getattr(row, key) for key in _ONE)), set()).add(row.value)
    return {str(key[0]) for key, values in found.items() if len(values) > 1}


def _score_name(row: BoardRow | PublishedNumber) -> str:
    scenario = "" if row.scenario == CLEAN and row.metric not in _OWN else row.scenario
    metric = "" if row.metric in _OWN else row.metric
    return " ".join(part for part in (scenario, row.severity, metric) if part)


def _of_model(board: Leaderboard, named: Sequence[tuple[str, int, BoardRow]]) -> _Model:
    first = named[0][2]
    card, view = board.cards.get(first.model, ModelFacts()), board.views.get(first.model_view)
    tag = tag_of(card)
    name = f"{first.model} → {first.transforms}" if first.transforms else first.model
    if any(row.weights == "random" for *_, row in named):
        name = f"{name} (random weights)"
    scores: dict[str, _Score] = {}
    for score, place, row in named:  # the first of equals
        whole = _Score(row.value, Interval(row.low, row.high), row.higher_is_better, place=place)
        scores.setdefault(score, whole if row.status == "complete" else _Score(math.nan, None, row.higher_is_better, row.reason))
    size = min(view.size) if view else size_in(tag)
    return _Model(name, tag, first.base, _factors_of(card, tag), size, _costs_of(card, board, first), scores, first.transforms)


def _costs_of(card: ModelFacts, board: Leaderboard, row: BoardRow) -> dict[str, float | None]:
    """The costs of a model with its transforms. MACs that depend on the image are their mean over the clean ones, where a row has it."""
    known: dict[str, float | None] = dict(card.pipelines.get(row.transforms, {}))
    if not row.transforms:
        known = {"macs": card.macs, "parameters": card.parameters or None, **known}
    if known.get("macs") is None:
        part = board.rows
        own = (part["metric"] == "gmacs") & (part["scenario"] == CLEAN) & part["value"].notna()
        for name in _ONE:
            own &= part[name] == getattr(row, name)
        known["macs"] = 1e9 * float(part.loc[own, "value"].iloc[0]) if own.any() else None
    return known


def _factors_of(card: ModelFacts, tag: str) -> Factors:
    """The factors of a card: by its tag, by the name of its file where that is one of AugReg's, else by its architecture."""
    by_file = factors(card.source)
    if tag or by_file.recipe != UNKNOWN:
        return factors(tag) if tag else by_file
    parts = dict(part.partition("=")[::2] for part in card.identity.partition("(")[2].removesuffix(")").split(", "))
    side = re.search(r"patch_size=(\d+)", parts.get("kwargs", ""))
    known = factors(parts.get("arch", "").partition(".")[0])
    return replace(known, patch=int(side.group(1))) if side else known
