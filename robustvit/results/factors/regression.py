"""Fits over a factor view: effective robustness, a regression on factors and a scaling law.

They all describe the models of the table, which are no random sample: coefficients are associations, and families repeat themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import expit, logit, stdtr

from robustvit.errors import NotApplicable, few
from robustvit.results.factors.view import COSTS, FactorView

_FEWEST = 3  # models that a line is fitted to: two are always on one
_STARTS = ((0.5, 0.3), (0.2, 1.0), (1.0, 0.1), (0.1, 2.0))  # (a, b) that the search for a scaling law begins at


@dataclass(frozen=True)
class LogitLine:
    """logit(shifted accuracy) = intercept + slope · logit(clean accuracy), by least squares over n models."""

    shift: str
    intercept: float
    slope: float
    r2: float
    n: int

    def expected(self, clean: pd.Series) -> pd.Series:
        """The shifted accuracy on the line at a clean one, both in %."""
        return pd.Series(100 * expit(self.intercept + self.slope * logit(clean / 100)), clean.index)

    def __str__(self) -> str:
        sign = "+" if self.slope >= 0 else "-"
        line = f"logit({self.shift}) = {self.intercept:.4f} {sign} {abs(self.slope):.4f} · logit(clean)"
        return f"{line}, R² {self.r2:.4f}, over {self.n} models"


@dataclass(frozen=True)
class Effective:
    """line: the fit that residuals are from. table: per model clean, shifted and expected accuracy, the residual in points, its interval.

    `left_out` is the reason why a model has no residual, "" for those that have one. Those left out come last.
    """

    line: LogitLine
    table: pd.DataFrame


@dataclass(frozen=True)
class Regression:
    """Least squares of logit(shift). table: term, coefficient, standard_error, t, p; `against`: the reference level of each factor."""

    shift: str
    table: pd.DataFrame
    against: dict[str, str]
    r2: float
    n: int
    freedom: int

    def __str__(self) -> str:
        zero = ", ".join(f"{name} = {level}" for name, level in self.against.items())
        fit = f"over {self.n} models, {self.freedom} degrees of freedom, R² {self.r2:.4f}" + (f"; compared with {zero}" if zero else "")
        return f"logit({self.shift}) by least squares {fit}"


@dataclass(frozen=True)
class Scaling:
    """error = a · (cost + d)^(−b) + c. error and its rmse as fractions; cost in GMACs or millions of parameters."""

    score: str
    cost: str
    a: float
    b: float
    c: float
    d: float
    rmse: float
    n: int
    converged: bool
    message: str

    @property
    def table(self) -> pd.DataFrame:
        """The parameters, one row each."""
        return pd.DataFrame({"term": list("abcd"), "value": [self.a, self.b, self.c, self.d]})

    def __str__(self) -> str:
        unit = COSTS[self.cost][1].removesuffix(" per image")
        law = f"error of {self.score} = {self.a:.4f} · (cost + {self.d:.4f})^-{self.b:.4f} + {self.c:.4f}, cost in {unit}"
        ended = "converged" if self.converged else f"NOT converged: {self.message}"
        return f"{law}; rmse {100 * self.rmse:.2f} points over {self.n} models; {ended}"


def effective_robustness(view: FactorView, shift: str, *, among: FactorView | None = None) -> Effective:
    """How much more accurate each model is on a shift than its clean accuracy predicts, in points (Taori et al. 2020).

    The line logit(shift) ~ logit(clean) is fitted over the models of `among`, default the view's own: then a model moves the line that it
    is measured from. Models without both numbers, or with an accuracy of 0 or 100 %, have no residual but a reason. The interval is that of
    the model's own two numbers, added in squares, the clean one through the line; the line itself is taken as known, and pairing is not
    used. Raises NotApplicable where fewer than three models have both numbers, or all have the same clean accuracy.
    """
    line = _line(view if among is None else among, view.need(shift))
    part = view.rows[(usable := _usable(view, shift))]
    expected = line.expected(part["clean"])
    up = ((part[f"{shift}_high"] - part[shift]) ** 2 + (expected - line.expected(part["clean_low"])) ** 2) ** 0.5
    down = ((part[shift] - part[f"{shift}_low"]) ** 2 + (line.expected(part["clean_high"]) - expected) ** 2) ** 0.5
    residual = part[shift] - expected
    table = pd.DataFrame({
        "model": part["model"], "clean": part["clean"], shift: part[shift], "expected": expected, "effective": residual,
        "low": residual - down, "high": residual + up,
    })  # fmt: skip
    ranked = table.sort_values("effective", ascending=False, kind="stable").assign(left_out="")
    out = view.rows.loc[~usable, ["model", "clean", shift]].assign(left_out=_why_not(view, ~usable, shift))
    return Effective(line, pd.concat([ranked, out], ignore_index=True).astype({"left_out": "str"}))


def augreg_fit(view: FactorView, shift: str, factors: Sequence[str] = ("pretraining", "kind")) -> Regression:
    """Least squares of logit(shift) on logit(clean) and factors, as AugReg's authors regress on recipes (Steiner et al. 2022).

    factors: columns of the view; text becomes a column for each level but the commonest, numbers enter as they are, and models that lack
    one are left out. Standard errors assume equal, independent errors, which models of one family do not have.
    Raises NotApplicable for too few models, or collinear factors.
    """
    missing = [name for name in factors if name not in view.rows or name == "model"]
    if missing:
        raise NotApplicable(f"the view has no factor '{missing[0]}'")
    part = view.rows[_usable(view, view.need(shift)) & view.rows[list(factors)].notna().all(axis=1)]
    columns, against = _design(part, factors)
    matrix = np.column_stack(list(columns.values()))
    n, terms = matrix.shape
    if n <= terms:
        raise NotApplicable(f"a regression with {terms} terms needs at least {terms + 1} models; {n} have all its factors")
    _refuse_aliases(matrix, list(columns))
    target = logit(part[shift].to_numpy() / 100)
    inverse = np.linalg.inv(matrix.T @ matrix)
    coefficients = np.linalg.lstsq(matrix, target, rcond=None)[0]
    left = target - matrix @ coefficients
    errors = np.sqrt(np.diag(inverse) * (left @ left) / (n - terms))
    t = np.divide(coefficients, errors, out=np.full(terms, np.nan), where=errors > 0)
    p = 2 * stdtr(n - terms, -np.abs(t))
    table = pd.DataFrame({"term": list(columns), "coefficient": coefficients, "standard_error": errors, "t": t, "p": p})
    return Regression(shift, table, against, _r2(target, left), n, n - terms)


def scaling_fit(view: FactorView, score: str, cost: str = "macs") -> Scaling:
    """The saturating power law error = a · (C + d)^(−b) + c of a score over cost (Zhai et al. 2022), a, b, c, d ≥ 0.

    The error is 100 % minus an accuracy, or the score itself where lower is better. The best of several starts; `converged` says whether
    the search ended by itself. Raises NotApplicable where models are no more than parameters: five are needed.
    """
    part = view.rows[view.rows[view.need(score)].notna() & view.rows[cost].notna()]
    if len(part) < 5:
        raise NotApplicable(f"a scaling law has four parameters and needs at least five models; {len(part)} have both {score} and {cost}")
    size = part[cost].to_numpy() / COSTS[cost][0]
    value = part[score].to_numpy() / 100
    error = 1 - value if view.scores[score] else value

    def miss(p: np.ndarray) -> np.ndarray:
        return np.asarray(p[0] * (size + p[3]) ** -p[1] + p[2] - error)

    bounds, scale = ([0.0, 0.0, 0.0, 1e-9], np.inf), [1.0, 1.0, 0.1, 1.0]
    starts = ([a, b, 0.5 * error.min(), 0.1] for a, b in _STARTS)
    found = (least_squares(miss, start, bounds=bounds, x_scale=scale, max_nfev=4000) for start in starts)
    best = min(found, key=lambda one: one.cost)
    rmse = float(np.sqrt(np.mean(best.fun**2)))
    a, b, c, d = (float(value) for value in best.x)
    return Scaling(score, cost, a, b, c, d, rmse, len(part), bool(best.success), str(best.message))


def _usable(view: FactorView, shift: str) -> pd.Series:
    """Whether each model has both accuracies strictly between 0 and 100 %, where the logit is finite."""
    if "clean" not in view.rows:
        raise NotApplicable("no model here has a clean accuracy")
    if shift == "clean" or not view.scores[shift]:
        raise NotApplicable(f"'{shift}' is no accuracy beside the clean one; name a shift or an attack")
    return view.rows["clean"].between(0, 100, inclusive="neither") & view.rows[shift].between(0, 100, inclusive="neither")


def _why_not(view: FactorView, out: pd.Series, shift: str) -> list[str]:
    """Why each of some models that are not `_usable` is not."""
    rows = view.rows[out].to_dict("records")
    return ["; ".join(filter(None, (_no_logit(view, row, name) for name in ("clean", shift)))) for row in rows]


def _no_logit(view: FactorView, row: Mapping[Hashable, Any], score: str) -> str:
    """Why an accuracy has no finite logit; nothing where it has one."""
    if missing := view.missing(row, score):
        return missing if "partial" in missing else "no clean accuracy" if score == "clean" else f"no number on {score}"
    return "" if 0 < row[score] < 100 else f"{row[score]:g} % on {score}, whose logit is infinite"


def _line(view: FactorView, shift: str) -> LogitLine:
    part = view.rows[(usable := _usable(view, view.need(shift)))]
    if len(part) < _FEWEST:
        out = [f"{model} ({why})" for model, why in zip(view.rows["model"][~usable], _why_not(view, ~usable, shift), strict=True)]
        raise NotApplicable(
            f"a line needs at least {_FEWEST} models with a clean accuracy and one on '{shift}', both between 0 and 100 %; "
            f"{len(part)} of {len(view.rows)} have them" + (f"; left out: {few(out)}" if out else "")
        )
    x, y = logit(part["clean"].to_numpy() / 100), logit(part[shift].to_numpy() / 100)
    if np.ptp(x) == 0:
        raise NotApplicable("every model has the same clean accuracy, which leaves no line to fit")
    matrix = np.column_stack([np.ones(len(x)), x])
    intercept, slope = np.linalg.lstsq(matrix, y, rcond=None)[0]
    return LogitLine(shift, float(intercept), float(slope), _r2(y, y - matrix @ [intercept, slope]), len(part))


def _r2(target: np.ndarray, left: np.ndarray) -> float:
    spread = target - target.mean()
    return float(1 - (left @ left) / (spread @ spread)) if spread @ spread > 0 else float("nan")


def _design(part: pd.DataFrame, factors: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The regression's columns by name, and the level of each factor that the others are compared with."""
    columns = {"intercept": np.ones(len(part)), "logit(clean)": logit(part["clean"].to_numpy() / 100)}
    against = {}
    for name in factors:
        if pd.api.types.is_numeric_dtype(part[name]):
            columns[name] = part[name].to_numpy(dtype=np.float64)
            continue
        counts = part[name].value_counts()
        levels = sorted(counts.index, key=lambda level: (-counts[level], level))
        if levels:
            against[name] = str(levels[0])
        columns |= {f"{name} = {level}": (part[name] == level).to_numpy(dtype=np.float64) for level in levels[1:]}
    return columns, against


def _refuse_aliases(matrix: np.ndarray, names: Sequence[str]) -> None:
    """Raises NotApplicable, naming the first term that is a linear combination of those before it."""
    for count in range(1, matrix.shape[1] + 1):
        if np.linalg.matrix_rank(matrix[:, :count]) < count:
            raise NotApplicable(f"the term '{names[count - 1]}' is a linear combination of the terms before it; leave its factor out")
