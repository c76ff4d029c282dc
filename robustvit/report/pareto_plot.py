"""The Pareto plot of a factor view: which columns it shows, and what is written on its axes."""

from __future__ import annotations

import math

import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.report.scatter import Scatter, Spot, scatter
from robustvit.results.factors.regression import pareto
from robustvit.results.factors.view import FactorView

UNITS = {"macs": (1e9, "GMACs of a picture"), "parameters": (1e6, "million parameters")}


def pareto_plot(view: FactorView, score: str, cost: str = "macs", group: str = "pretraining") -> Scatter:
    """Score against cost, with the models that nothing beats joined and named. group: the factor that colours.

    Raises UsageError for a score that the view lacks, NotApplicable where fewer than two models have both numbers.
    """
    rows = view.rows
    part = rows[rows[cost].notna() & (rows[cost] > 0) & rows[view.need(score)].notna()]
    if len(part) < 2:
        raise NotApplicable(
            f"a Pareto plot needs at least two models with {cost} and {score}; there {'is one' if len(part) else 'are none'}"
        )
    scale, unit = UNITS[cost]
    best = set(pareto(view, cost, score).index)
    spots = [
        Spot(str(row["model"]), row[cost] / scale, row[score], *_interval(row, score), str(row[group]), index in best)
        for index, row in part.iterrows()
    ]  # fmt: skip
    better = "higher" if view.scores[score] else "lower"
    return scatter(spots, title=f"{score} against {unit}", across=f"{unit}, logarithmic", up=f"{score}, % ({better} is better)")


def _interval(row: pd.Series, score: str) -> tuple[float, float]:
    return float(row.get(f"{score}_low", math.nan)), float(row.get(f"{score}_high", math.nan))
