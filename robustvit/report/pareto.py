"""Robustness against cost, as the page shows it: a picture for each data set on which at least two models have both numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from robustvit.report.pareto_plot import pareto_plot
from robustvit.report.scatter import svg
from robustvit.results.factors.view import COSTS, FACTORS, FactorView, factor_view
from robustvit.results.leaderboard import Leaderboard
from robustvit.statistics.estimates import of_measurements

_FIRST = ("mce_alexnet", "mean_corruption_error", "mean_err_15", "mfr_alexnet", "mean_flip_rate")  # shown before any other average


@dataclass(frozen=True)
class Picture:
    """svg: safe markup. score, cost: what is drawn over what; left_out: the models that lack one of them, and which."""

    data: str
    score: str
    cost: str
    svg: Markup
    left_out: tuple[str, ...]


def pictures(board: Leaderboard) -> tuple[Picture, ...]:
    """A picture of each data set's first score of robustness with two models in it, by MACs, or by parameters where MACs are not known."""
    view, rows = factor_view(board), board.rows
    drawn = (
        _picture(str(data), FactorView(part, view.scores), rows[rows["base"] == data])
        for data, part in view.rows.groupby("base", sort=False)
    )
    return tuple(picture for picture in drawn if picture is not None)


def _picture(data: str, view: FactorView, board: pd.DataFrame) -> Picture | None:
    part = view.rows
    names = [
        name for score in _of_robustness(board) for name in view.scores if name.split(" (")[0] == score
    ]  # a suite or parameters may follow
    found = [(cost, score) for cost in COSTS for score in names if (part[cost].notna() & part[score].notna()).sum() > 1]
    if not found:
        return None
    cost, score = found[0]
    group = next((name for name in ("pretraining", "family", *FACTORS) if part[name].nunique() > 1), "pretraining")
    return Picture(data, score, cost, Markup(svg(pareto_plot(view, score, cost, group))), tuple(_left_out(part, score, cost)))


def _of_robustness(board: pd.DataFrame) -> list[str]:
    """The scores that tell of robustness, first what sums a suite up: never an accuracy on the base data itself, never a gap, which bad models keep small."""
    rows = board[board["unit"] == "%"]
    better, of_cells = rows[rows["higher_is_better"]], rows[(rows["cell"] != "") & (rows["higher_is_better"])]
    averages = better[(better["cell"] == "") & (better["scenario"] == "")]
    measured = of_cells[of_cells["metric"].map(of_measurements).astype(bool)]
    attacked = of_cells[of_cells["metric"] == "robust_accuracy"]
    shifted = of_cells[(of_cells["metric"] == "top1") & (of_cells["severity"] == "") & (of_cells["data"] != of_cells["base"])]
    told = [
        *_FIRST, *averages["metric"], *(measured["scenario"] + " " + measured["metric"]),
        *reversed((attacked["scenario"] + " " + attacked["severity"]).tolist()), *reversed(shifted["scenario"].tolist()),
    ]  # fmt: skip
    return list(dict.fromkeys(str(name) for name in told))


def _left_out(part: pd.DataFrame, score: str, cost: str) -> Iterator[str]:
    """The models that the picture lacks, each with what is not known of it."""
    for row in part.to_dict("records"):
        lacks = [name for name in (score, cost) if pd.isna(row[name])]
        if lacks:
            yield f"{row['model']} (no {' nor '.join(lacks)})"
