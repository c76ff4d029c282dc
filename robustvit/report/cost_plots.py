"""Robustness against cost: a Pareto plot for each data set on which at least two models have both a score and a cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from robustvit.report.pareto_plot import pareto_plot
from robustvit.report.scatter import svg
from robustvit.results.factors.pareto_front import ScoreTests
from robustvit.results.factors.view import COSTS, FACTORS, FactorView, factor_view
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.paired_best import PairedTests
from robustvit.statistics.estimates import of_scores

_COMPRESSED = ("macs", "weight_bytes", "latency")  # what transforms change
_FIRST = ("mce_alexnet", "mean_corruption_error", "mean_err_15", "mfr_alexnet", "mean_flip_rate")  # shown before any other average


@dataclass(frozen=True)
class CostPlot:
    """A plot of `score` over `cost`. svg: safe markup; left_out: the models that lack one of the two, and which."""

    data: str
    score: str
    cost: str
    svg: Markup
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class PlottedScore:
    """What a plot is of. view: its models; group: the factor that colours them."""

    data: str
    view: FactorView
    score: str
    cost: str

    @property
    def group(self) -> str:
        """The first factor in which the models differ."""
        rows = self.view.rows
        return next((name for name in ("transform", "pretraining", "family", *FACTORS) if rows[name].nunique() > 1), "pretraining")


def cost_plots(board: Leaderboard, tests: PairedTests | None = None) -> tuple[CostPlot, ...]:
    """The plots of `plotted_scores`. tests: of the leaderboard, made where they are not given."""
    shown = ScoreTests(board, tests)
    return tuple(
        CostPlot(
            one.data, one.score, one.cost, Markup(svg(pareto_plot(one.view, one.score, one.cost, one.group, shown))),
            tuple(_left_out(one.view, one.score, one.cost)),
        )
        for one in plotted_scores(board)
    )  # fmt: skip


def plotted_scores(board: Leaderboard) -> list[PlottedScore]:
    """For each data set, the first robustness score that two models have, over MACs, or over parameters where MACs are unknown.

    Where models have transforms: clean accuracy, the first average and the first accuracy under attack, over each cost that they differ in.
    """
    view, rows = factor_view(board), board.rows
    found: list[PlottedScore] = []
    for data, part in view.rows.groupby("base", sort=False):
        own = replace(view, rows=part)
        names = _scores(own, rows[rows["base"] == data])
        found += _of_transforms(str(data), own, names) if part["transforms"].any() else _of_models(str(data), own, names)
    return found


def _scores(view: FactorView, board: pd.DataFrame) -> list[str]:
    """The robustness scores of a view, as `_robustness_scores` orders them; a score's suite or parameters may follow its name."""
    return [name for score in _robustness_scores(board) for name in view.scores if name.split(" (")[0] == score]


def _of_models(data: str, view: FactorView, names: Sequence[str]) -> Iterator[PlottedScore]:
    found = ((cost, score) for cost in COSTS for score in names if _both(view, cost, score))
    yield from (PlottedScore(data, view, score, cost) for cost, score in itertools.islice(found, 1))


def _of_transforms(data: str, view: FactorView, names: Sequence[str]) -> Iterator[PlottedScore]:
    rows = view.rows
    averages = [name for name in names if " " not in name]
    attacked = sorted((name for name in view.scores if " " in name), key=lambda name: ("worst_case" not in name, names.index(name)
                      if name in names else len(names)))  # fmt: skip
    scores = [name for name in ("clean", *averages[:1], *attacked[:1]) if name in view.scores]
    costs = [cost for cost in _COMPRESSED if cost in rows and rows[cost].nunique() > 1]
    yield from (PlottedScore(data, view, score, cost) for cost in costs for score in scores if _both(view, cost, score))


def _both(view: FactorView, cost: str, score: str) -> bool:
    """Whether two models have both numbers."""
    return bool((view.rows[cost].notna() & view.rows[score].notna()).sum() > 1)


def _robustness_scores(board: pd.DataFrame) -> list[str]:
    """Names of robustness scores, averages over a suite first.

    Never an accuracy on the base data itself, and never a gap, which is small for a poor model, too.
    """
    rows = board[board["unit"] == "%"]
    better, of_cells = rows[rows["higher_is_better"]], rows[(rows["cell"] != "") & (rows["higher_is_better"])]
    averages = better[(better["cell"] == "") & (better["scenario"] == "")]
    measured = of_cells[of_cells["metric"].map(of_scores).astype(bool)]
    attacked = of_cells[of_cells["metric"] == "robust_accuracy"]
    shifted = of_cells[(of_cells["metric"] == "top1") & (of_cells["severity"] == "") & (of_cells["data"] != of_cells["base"])]
    names = [
        *_FIRST, *averages["metric"], *(measured["scenario"] + " " + measured["metric"]),
        *reversed((attacked["scenario"] + " " + attacked["severity"]).tolist()), *reversed(shifted["scenario"].tolist()),
    ]  # fmt: skip
    return list(dict.fromkeys(str(name) for name in names))


def _left_out(view: FactorView, score: str, cost: str) -> Iterator[str]:
    """The models that are not in the plot, each with what is missing."""
    for row in view.rows.to_dict("records"):
        missing = [text for name in (score, cost) if (text := view.missing(row, name))]
        if missing:
            yield f"{row['model']} ({' and '.join(missing)})"
