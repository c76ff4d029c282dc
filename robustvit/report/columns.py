"""The columns of the report's leaderboard table, and the numbers of single cells under them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from robustvit.report.labels import metric_tip, scenario_title
from robustvit.report.points import Point, point_of
from robustvit.report.suite_results import ModelResults, SuiteResults, setting_of
from robustvit.spec.written.words import metric_name
from robustvit.statistics.estimates import describes

ERRORS = ("mean_error", "mce_alexnet", "mean_corruption_error", "mean_err_15", "mean_err_19")  # small only where accuracy is high


@dataclass(frozen=True)
class Column:
    """A column of numbers. uses_labels: whether they depend on the labels (accuracy) or on the predictions alone (confidence).

    tip: the metric's identifier and what it is.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool
    uses_labels: bool = True
    tip: str = ""
    descriptive: bool = False

    @property
    def subtitle(self) -> str:
        """Unit and direction."""
        direction = "" if self.descriptive else "higher is better" if self.higher_is_better else "lower is better"
        return " · ".join(part for part in (self.unit, direction) if part)

    @property
    def marked(self) -> bool:
        """Whether the best number is marked. Where lower is better only for errors: a gap is also small for a model with low accuracy."""
        return self.uses_labels and not self.descriptive and (self.higher_is_better or self.key in ERRORS)


def column_of(row: Any, title: str = "") -> Column:
    """The column of a row of a leaderboard, named by its metric where no title is given."""
    metric = str(row.metric)
    return Column(
        title or metric, title or metric_name(metric), str(row.unit), bool(row.higher_is_better), tip=metric_tip(metric),
        descriptive=describes(metric),
    )  # fmt: skip


def points_of_cells(suite: SuiteResults, model: ModelResults, metrics: Container[str]) -> dict[Column, Point]:
    """Some metrics of every cell of a model, in the order of the leaderboard.

    A column is named by its metric alone where the suite has that in one cell only, else by the cell as well.
    """
    rows = {other: list(other.rows_of([metric for metric in other.metrics if metric in metrics])) for other in suite.models}
    several = [row for every in rows.values() for row in every if row.metric not in suite.single_cell_metrics]
    keys = list(dict.fromkeys(setting_of(row)[:2] for row in several))
    return {column_of(row, _title(row, keys) if row.metric not in suite.single_cell_metrics else ""): point_of(row) for row in rows[model]}


def _title(row: Any, keys: list[tuple[str, str]]) -> str:
    """`loss surface (eps=4/255) slope disagreement`. keys: the scenarios and parameters that it is told apart from."""
    setting = setting_of(row)
    return " ".join(filter(None, (scenario_title(setting[:2], keys), setting.severity, metric_name(str(row.metric)))))
