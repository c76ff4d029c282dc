"""The Pareto plot of a factor view: a robustness score against a cost."""

from __future__ import annotations

import math

import pandas as pd

from robustvit.errors import NotApplicable, few
from robustvit.report.scatter import Scatter, ScatterPoint, scatter
from robustvit.results.factors.pareto_front import ScoreTests, standings
from robustvit.results.factors.view import COSTS, FactorView
from robustvit.spec.written.words import metric_name


def pareto_plot(view: FactorView, score: str, cost: str = "macs", group: str = "pretraining", tests: ScoreTests | None = None) -> Scatter:
    """Score against cost, with the models of the Pareto front joined and labelled, and hollow those whose place noise could change.

    group: the factor that colours the points. tests: of the differences between scores. Models whose cell is not finished are left out,
    and named in the title. Raises UsageError for a score that the view lacks, NotApplicable where fewer than two models have both numbers.
    """
    rows = view.rows
    part = rows[rows[cost].notna() & (rows[cost] > 0) & rows[view.need(score)].notna()]
    partial = [f"{row['model']} ({view.missing(row, score)})" for row in rows.to_dict("records") if row.get(f"{score}_partial")]
    out = f"; left out: {few(partial)}" if partial else ""
    if len(part) < 2:
        raise NotApplicable(
            f"a Pareto plot needs at least two models with {cost} and {score}; there {'is one' if len(part) else 'are none'}{out}"
        )
    scale, unit = COSTS[cost]
    found = standings(view, cost, score, tests)
    points = [
        ScatterPoint(
            str(row["model"]), row[cost] / scale, row[score], *_interval(row, score), str(row[group]),
            found[index].front, found[index].noise, found[index].text,
        )
        for index, row in part.iterrows()
    ]  # fmt: skip
    better = "higher" if view.scores[score] else "lower"
    named = " ".join(map(metric_name, score.split(" ")))
    return scatter(points, title=f"{named} against {unit}{out}", across=f"{unit}, logarithmic", up=f"{named}, % ({better} is better)")


def _interval(row: pd.Series, score: str) -> tuple[float, float]:
    return float(row.get(f"{score}_low", math.nan)), float(row.get(f"{score}_high", math.nan))
