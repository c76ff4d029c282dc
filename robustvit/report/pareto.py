"""Robustness against cost, as the page shows it: a picture for each data set on which at least two models have both numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from robustvit.factors import COSTS, FACTORS, factor_view
from robustvit.pareto_plot import pareto_plot
from robustvit.scatter import svg

_FIRST = ("mce_alexnet", "mean_corruption_error", "mean_err_15", "mfr_alexnet", "mean_flip_rate")  # shown before any single shift or attack


@dataclass(frozen=True)
class Picture:
    """svg: safe markup. score, cost, group: what is drawn over what, and what colours it."""

    data: str
    score: str
    cost: str
    svg: Markup


def pictures(board: pd.DataFrame) -> tuple[Picture, ...]:
    """A picture of each data set's first score with two models in it, by MACs, or by parameters where MACs are not known."""
    if "models" not in board.attrs:
        return ()
    view = factor_view(board)
    drawn = (_picture(str(data), part, view.attrs["scores"]) for data, part in view.groupby("base", sort=False))
    return tuple(picture for picture in drawn if picture is not None)


def _picture(data: str, part: pd.DataFrame, scores: dict[str, bool]) -> Picture | None:
    part.attrs["scores"] = scores
    names = [name for name in (*_FIRST, *reversed(scores)) if name in scores and name != "clean"]
    found = [(cost, score) for cost in COSTS for score in names if (part[cost].notna() & part[score].notna()).sum() > 1]
    if not found:
        return None
    cost, score = found[0]
    group = next((name for name in ("pretraining", "family", *FACTORS) if part[name].nunique() > 1), "pretraining")
    return Picture(data, score, cost, Markup(svg(pareto_plot(part, score, cost, group))))
