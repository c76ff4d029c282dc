"""Who appears in a report: models, told apart by whatever differs between them, and the stages on which they were asked the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from robustvit.report.figures import SLOTS, Point
from robustvit.results.gradient_masking import worst_verdict
from robustvit.statistics.estimates import of_measurements

_SELF = ("model", "transforms", "seed", "precision", "model_view", "storage")  # what makes one entrant another
_STAGE = ("suite", "base")


class Place(NamedTuple):
    """A cell within an entrant: scenario, its other parameters, severity."""

    scenario: str
    params: str
    severity: str


@dataclass(frozen=True, eq=False)
class Entrant:
    """A model on one stage. slot: its colour and shape, the same on every stage. detail: what tells it from its namesakes."""

    model: str
    detail: str
    slot: int
    random: bool
    suite: str
    data: str
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """The model and what tells it from its namesakes."""
        return f"{self.model} · {self.detail}" if self.detail else self.model

    @property
    def cells(self) -> pd.DataFrame:
        """The rows about single cells."""
        return self.rows[self.rows["cell"] != ""]

    def metric(self) -> str:
        """The metric that pictures show: top1 where it was asked, else the first of the cells'; "" without cells."""
        asked = [str(name) for name in self.cells["metric"].unique() if name]
        return "top1" if "top1" in asked or not asked else asked[0]

    def points(self, metric: str) -> dict[Place, Point]:
        """A metric's numbers by place."""
        part = self.cells[self.cells["metric"] == metric]
        return {Place(str(row.scenario), str(row.params), str(row.severity)): point_of(row) for row in part.itertuples()}

    def measured(self) -> dict[str, Any]:
        """The rows of metrics that read what an analysis measured, by metric."""
        return {str(row.metric): row for row in self.cells.itertuples() if of_measurements(str(row.metric))}

    def alone(self) -> dict[str, Any]:
        """The rows of metrics that one cell alone was asked, by metric; top1 and robust accuracy aside, which bear their scenario's name."""
        rows = self.cells[~self.cells["metric"].isin(("", "top1", "robust_accuracy"))]
        return {str(row.metric): row for row in rows[~rows["metric"].duplicated(keep=False)].itertuples()}

    def own(self, metric: str) -> dict[Place, Any]:
        """The rows of a metric in cells with a scenario of their own: neither clean, nor of a severity, nor attacked, nor measured."""
        attacked = self.cells.loc[self.cells["metric"] == "robust_accuracy", "cell"]
        kept = (self.cells["scenario"] != "clean") & (self.cells["severity"] == "") & ~self.cells["cell"].isin(attacked)
        rows = self.cells[kept & (self.cells["metric"] == metric) & (not of_measurements(metric))]
        return {Place(str(row.scenario), str(row.params), ""): row for row in rows.itertuples()}

    def gradients(self) -> str:
        """The worst_verdict verdict on the gradients that attacks followed; "" without attacks."""
        return worst_verdict(self.rows["gradients"])

    def average(self, metric: str, scenario: str = "") -> Point | None:
        """A metric over several cells, of one corruption or of all; None where it was not asked."""
        part = self.rows[(self.rows["cell"] == "") & (self.rows["metric"] == metric) & (self.rows["scenario"] == scenario)]
        return next((point_of(row) for row in part.itertuples()), None)


@dataclass(frozen=True, eq=False)
class Stage:
    """A suite on a data set, and who was asked it."""

    suite: str
    data: str
    entrants: tuple[Entrant, ...]

    @property
    def metric(self) -> str:
        """The metric that this stage's pictures show."""
        return next((entrant.metric() for entrant in self.entrants if len(entrant.cells)), "top1")

    def unit(self, metric: str) -> str:
        """The unit of a metric."""
        units = [unit for entrant in self.entrants for unit in entrant.rows.loc[entrant.rows["metric"] == metric, "unit"]]
        return str(units[0]) if units else ""


def stages(board: pd.DataFrame) -> list[Stage]:
    """The stages of a leaderboard, in its order."""
    selves = board[list(_SELF)].drop_duplicates()
    details = _details(selves)
    found = []
    for (suite, data), part in board.groupby(list(_STAGE), sort=False):
        entrants = [
            Entrant(
                str(key[0]), details[key], list(details).index(key), bool((rows["weights"] == "random").any()), str(suite), str(data), rows
            )
            for key, rows in part.groupby(list(_SELF), sort=False)
        ]
        found.append(Stage(str(suite), str(data), tuple(entrants)))
    return found


def point_of(row: Any) -> Point:
    """A row of the leaderboard as a point of a figure."""
    return Point(float(row.value), float(row.low), float(row.high), str(row.status), str(row.reason), str(row.gradients))


def colour(slot: int) -> int:
    """Which of the page's colours a slot has."""
    return slot % SLOTS


def mean(points: Iterable[Point]) -> float:
    """The plain mean of points that all have a complete value, NaN otherwise."""
    values = [one.value if one.status == "complete" else math.nan for one in points]
    return sum(values) / len(values) if values else math.nan


def _details(selves: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """What tells each entrant from its namesakes, in the order of the leaderboard."""
    differs = {model: [name for name in _SELF[1:] if part[name].nunique() > 1] for model, part in selves.groupby("model")}
    return {
        key: ", ".join(_part(name, key[_SELF.index(name)]) for name in differs[key[0]]) for key in selves.itertuples(index=False, name=None)
    }


def _part(name: str, value: object) -> str:
    if name == "transforms":
        return str(value) or "as it is"
    if name == "storage":
        return str(value) or "not stored"
    return f"seed {value}" if name == "seed" else str(value)
