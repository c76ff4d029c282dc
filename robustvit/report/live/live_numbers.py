"""The headline numbers of a run that goes on, by model, each with its interval and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robustvit.records.manifest import Manifest
from robustvit.report.labels import format_number
from robustvit.report.points import Point
from robustvit.report.suite_results import ModelResults, results_by_suite
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.spec.written.words import metric_name, with_spaces


@dataclass(frozen=True)
class LiveNumber:
    """A number under a title. n: its samples; gradients: of an attack, the verdict on gradient masking in a word."""

    title: str
    point: Point
    unit: str
    n: int
    gradients: str = ""

    @property
    def text(self) -> str:
        """The value with its unit, or the status that tells why there is none."""
        return f"{format_number(self.point.value)}\u00a0{self.unit}".rstrip("\u00a0") if self.point.known else self.point.status

    @property
    def interval(self) -> str:
        """From where to where; "" where there is none."""
        ends = [format_number(end) for end in (self.point.low, self.point.high)]
        return f"[{', '.join(ends)}]" if self.point.known and all(ends) else ""


@dataclass(frozen=True)
class LiveModel:
    """The numbers of a model on one data set. left_out: how many have no value yet because cells that they need lack rows."""

    results: ModelResults
    numbers: tuple[LiveNumber, ...]
    left_out: int


@dataclass(frozen=True)
class LiveNumbers:
    """The numbers of a run. damaged: why cells cannot be read, by their ids; problem: why there is no number at all, "" otherwise."""

    models: tuple[LiveModel, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def live_numbers(board: Leaderboard, run: Manifest) -> LiveNumbers:
    """The headline numbers of the models of a run, and what cannot be read of its cells. board: of the suite of the run."""
    rows = board.rows
    cells = {cell.cell for cell in run.cells}
    failed = rows[(rows["status"] == "failed") & rows["cell"].isin(cells)]
    models = [model for suite in results_by_suite(rows) for model in suite.models if model.rows["cell"].isin(cells).any()]
    return LiveNumbers(tuple(map(_live_model, models)), dict(zip(failed["cell"], failed["reason"], strict=True)))


def _live_model(model: ModelResults) -> LiveModel:
    every = list(map(_live_number, headline_numbers(model.rows)))
    shown = [one for one in every if one.point.known or one.point.status not in ("partial", "undefined")]
    return LiveModel(model, tuple(shown), sum(one.point.status == "partial" for one in every if not one.point.known))


def _live_number(one: ShownNumber) -> LiveNumber:
    facts, row = one.facts, one.rows.iloc[0]
    point = Point(facts["value"], facts["low"], facts["high"], facts["status"], str(row["reason"]))
    title = metric_name(one.title) if one.title == one.metric else with_spaces(one.title)
    return LiveNumber(title, point, str(row["unit"]), facts["n"], verdict_word(str(row["gradients"])))
