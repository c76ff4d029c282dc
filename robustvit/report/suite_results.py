"""Results by suite and model: the rows of a leaderboard grouped for the report, models of the same label distinguished by what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from robustvit.report.points import Point, point_of
from robustvit.results.gradient_masking import worst_verdict
from robustvit.results.parameters import crafted_elsewhere, distinguishing
from robustvit.statistics.estimates import of_measurements

_IDENTITY = ("model", "transforms", "seed", "precision", "model_view", "storage")  # columns that together identify a model
_SUITE = ("suite", "base")


class ScenarioSetting(NamedTuple):
    """A scenario with its other parameters, at a severity: what one cell of a model evaluates."""

    scenario: str
    params: str
    severity: str


def setting_of(row: Any) -> ScenarioSetting:
    """The setting of a row of a leaderboard."""
    return ScenarioSetting(str(row.scenario), str(row.params), str(row.severity))


@dataclass(frozen=True, eq=False)
class ModelResults:
    """The leaderboard rows of one model on one suite.

    label: the model's label in the store. detail: what distinguishes it from models of the same label, "" where nothing does.
    slot: its colour and symbol, the same in every suite. random: whether its weights are random.
    """

    label: str
    detail: str
    slot: int
    random: bool
    suite: str
    data: str
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """The label, followed by the detail where there is one."""
        return f"{self.label} · {self.detail}" if self.detail else self.label

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The rows about single cells."""
        return self.rows[self.rows["cell"] != ""]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of its cells, in the order of the leaderboard; "" is that of a cell without any."""
        return tuple(map(str, self.cells["metric"].unique()))

    def rows_of(self, metrics: Sequence[str]) -> Iterator[Any]:
        """The rows of some metrics in cells, in the order of the leaderboard."""
        return self.cells[self.cells["metric"].isin(metrics)].itertuples() if metrics else iter(())

    def metric(self) -> str:
        """The metric that figures show: top1 where the suite has it, else the first metric of the cells; top1 without cells."""
        metrics = [name for name in self.metrics if name]
        return "top1" if "top1" in metrics or not metrics else metrics[0]

    def points(self, metric: str) -> dict[ScenarioSetting, Point]:
        """A metric's values by setting, but for images that were crafted on another model: a matrix has those."""
        if metric not in self._points:
            rows = (row for row in self.rows_of([metric]) if not crafted_elsewhere(row.params))
            self._points[metric] = {setting_of(row): point_of(row) for row in rows}
        return dict(self._points[metric])

    def clean_point(self, metric: str) -> Point | None:
        """A metric's value on clean images; None where it was not evaluated."""
        return next((point for setting, point in self.points(metric).items() if setting.scenario == "clean"), None)

    def without_severity(self, metric: str) -> dict[ScenarioSetting, Any]:
        """The rows of a metric in cells without a severity that are neither clean nor attacked; none for measurements of an analysis."""
        if metric not in self._without_severity:
            rows = self.rows_of([] if of_measurements(metric) else [metric])
            kept = (row for row in rows if row.scenario != "clean" and row.severity == "" and row.cell not in self._attacked)
            self._without_severity[metric] = {setting_of(row): row for row in kept}
        return dict(self._without_severity[metric])

    @cached_property
    def _points(self) -> dict[str, dict[ScenarioSetting, Point]]:
        """What `points` has found."""
        return {}

    @cached_property
    def _without_severity(self) -> dict[str, dict[ScenarioSetting, Any]]:
        """What `without_severity` has found."""
        return {}

    @cached_property
    def _averages(self) -> dict[tuple[str, str], Point]:
        """Metrics over several cells, by metric and scenario; the first where there are several."""
        rows = self.rows[self.rows["cell"] == ""].drop_duplicates(["metric", "scenario"])
        return {(str(row.metric), str(row.scenario)): point_of(row) for row in rows.itertuples()}

    @cached_property
    def _attacked(self) -> frozenset[str]:
        """The cells of attacks."""
        return frozenset(row.cell for row in self.rows_of(["robust_accuracy"]))

    def gradients(self) -> str:
        """The worst gradient masking verdict of the model's attacks; "" without attacks."""
        return worst_verdict(self.rows["gradients"])

    def average(self, metric: str, scenario: str = "") -> Point | None:
        """A metric over several cells, of one corruption or of all; None where the suite does not have it."""
        return self._averages.get((metric, scenario))

    def averages(self) -> pd.DataFrame:
        """The rows of metrics over all cells of the suite."""
        return self.rows[(self.rows["cell"] == "") & (self.rows["scenario"] == "") & (self.rows["metric"] != "")]


@dataclass(frozen=True, eq=False)
class SuiteResults:
    """The results of all models evaluated on one suite and data set."""

    name: str
    data: str
    models: tuple[ModelResults, ...]

    @property
    def metric(self) -> str:
        """The metric that the figures of this suite show."""
        return next((model.metric() for model in self.models if len(model.cells)), "top1")

    @cached_property
    def single_cell_metrics(self) -> frozenset[str]:
        """The metrics that all models have in one and the same cell only, which need no other name; without top1 and robust accuracy."""
        counts: dict[str, Counter[ScenarioSetting]] = {}
        for model in self.models:
            for row in model.cells.itertuples():
                counts.setdefault(str(row.metric), Counter())[setting_of(row)] += 1
        single = {metric for metric, settings in counts.items() if len(settings) == 1 and settings.total() <= len(self.models)}
        return frozenset(single - {"", "top1", "robust_accuracy"})

    def unit(self, metric: str) -> str:
        """The unit of a metric; "" where the suite does not have it."""
        units = [unit for model in self.models for unit in model.rows.loc[model.rows["metric"] == metric, "unit"]]
        return str(units[0]) if units else ""


def results_by_suite(board: pd.DataFrame) -> list[SuiteResults]:
    """Groups a leaderboard by suite and data set, then by model, in the leaderboard's order."""
    details = _details(board[list(_IDENTITY)].drop_duplicates())
    slots = {identity: slot for slot, identity in enumerate(details)}
    found = []
    for (suite, data), part in board.groupby(list(_SUITE), sort=False):
        models = [
            ModelResults(
                str(key[0]), details[key], slots[key], bool((rows["weights"] == "random").any()), str(suite), str(data), rows
            )
            for key, rows in part.groupby(list(_IDENTITY), sort=False)
        ]  # fmt: skip
        found.append(SuiteResults(str(suite), str(data), tuple(models)))
    return found


def _details(identities: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """What distinguishes each model from those of the same label, in the leaderboard's order."""
    differs = {label: distinguishing(part, _IDENTITY[1:]) for label, part in identities.groupby("model")}
    return {
        key: ", ".join(_detail(name, key[_IDENTITY.index(name)]) for name in differs[key[0]])
        for key in identities.itertuples(index=False, name=None)
    }


def _detail(name: str, value: object) -> str:
    if name == "transforms":
        return str(value) or "untransformed"
    if name == "storage":
        return str(value) or "not stored"
    return f"seed {value}" if name == "seed" else str(value)
