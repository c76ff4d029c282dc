"""The models of a factor view that no other beats at equal cost or less."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.results.factors.view import FactorView


def pareto(view: FactorView, cost: str, score: str) -> pd.DataFrame:
    """The Pareto front, cheapest first: models that no other equals at less cost or beats at no more. Models without both are left out."""
    part = view.rows[view.rows[cost].notna() & view.rows[view.need(score)].notna()]
    sign = 1.0 if view.scores[score] else -1.0
    costs, scores = part[cost].to_numpy(), sign * part[score].to_numpy()
    no_worse = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    better = (costs[:, None] < costs) | (scores[:, None] > scores)
    front: pd.DataFrame = part.iloc[np.flatnonzero(~np.any(no_worse & better, axis=0))]
    return front.sort_values(by=[cost], kind="stable")
