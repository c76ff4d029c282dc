"""The tables of `robustvit factors`: the factor view, or a fit over it, with every digit for programs and short for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.results.factors.pareto_front import ScoreTests, standings
from robustvit.results.factors.regression import augreg_fit, effective_robustness, scaling_fit
from robustvit.results.factors.view import COSTS, FactorView

FITS = ("effective", "augreg", "scaling")
DEFAULT_TERMS = ("pretraining", "kind")


@dataclass(frozen=True)
class FactorTable:
    """table: every column and digit. page: what a terminal has room for, as text. sentence: the fit in one line, "" without one."""

    table: pd.DataFrame
    page: pd.DataFrame
    sentence: str = ""


def factor_table(
    view: FactorView,
    fit: str | None,
    shift: str,
    cost: str,
    terms: Sequence[str] | None = None,
    among: FactorView | None = None,
    tests: ScoreTests | None = None,
) -> FactorTable:
    """The view, or a fit over it.

    terms: of `augreg`; among: the models that the line of `effective` is fitted over; tests: of the Pareto front.
    """
    if fit == "effective":
        return _effective(view, shift, among)
    if fit == "augreg":
        return _augreg(view, shift, terms or DEFAULT_TERMS)
    return _plain(view, shift, cost, tests) if fit is None else _scaling(view, shift, cost)


def default_shift(view: FactorView) -> str:
    """The score that is shown where none is named: imagenet-a, or else the first beside the clean accuracy."""
    names = [name for name in view.scores if name != "clean"]
    return "imagenet-a" if "imagenet-a" in names or not names else names[0]


def _plain(view: FactorView, shift: str, cost: str, tests: ScoreTests | None = None) -> FactorTable:
    """The view itself, and where each model stands to the Pareto front; its page has the clean accuracy and one score, and marks it."""
    if cost not in ("macs", "parameters") and view.rows[cost].isna().all():
        hint = " Run again with --latency." if cost == "latency" else ""
        raise NotApplicable(f"no model here has a number of {COSTS[cost][1]} ({cost}).{hint}")
    found = standings(view, cost, shift, tests)
    lines = [
        {
            "model": row["model"], "pretraining": row["pretraining"], "recipe": row["recipe"],
            "M parameters": _scaled(row["parameters"], 1e6), "GMACs": _scaled(row["macs"], 1e9),
            **({} if cost in ("macs", "parameters") else {COSTS[cost][1]: _scaled(row[cost], COSTS[cost][0])}),
            **{name: _shown(row, name) for name in dict.fromkeys(("clean", shift))},
            "front": found[index].mark if index in found else "",
        }
        for index, row in view.rows.iterrows()
    ]  # fmt: skip
    told = [found[index].text if index in found else "" for index in view.rows.index]
    return FactorTable(view.rows.assign(front=told), pd.DataFrame(lines))


def _effective(view: FactorView, shift: str, among: FactorView | None = None) -> FactorTable:
    """Effective robustness, the most robust model first; last those left out, with the reason."""
    found = effective_robustness(view, shift, among=among)
    page = pd.DataFrame({
        "model": found.table["model"], "clean": found.table["clean"].map(_number), shift: found.table[shift].map(_number),
        "expected": found.table["expected"].map(_number),
        "effective": [_signed(row["effective"], row["low"], row["high"]) for _, row in found.table.iterrows()],
    })  # fmt: skip
    out = found.table["left_out"]
    if (out == "").all():
        return FactorTable(found.table, page, str(found.line))
    return FactorTable(found.table, page.assign(**{"left out": out}), f"{found.line}; left out: {(out != '').sum()} of {len(out)}")


def _augreg(view: FactorView, shift: str, terms: Sequence[str]) -> FactorTable:
    found = augreg_fit(view, shift, terms)
    page = found.table.assign(
        coefficient=found.table["coefficient"].map("{:+.3f}".format), standard_error=found.table["standard_error"].map("{:.3f}".format),
        t=found.table["t"].map("{:+.1f}".format), p=found.table["p"].map("{:.2g}".format),
    )  # fmt: skip
    return FactorTable(found.table, page, str(found))


def _scaling(view: FactorView, score: str, cost: str) -> FactorTable:
    found = scaling_fit(view, view.need(score), cost)
    return FactorTable(found.table, found.table.assign(value=found.table["value"].map("{:.4f}".format)), str(found))


def _shown(row: pd.Series, name: str) -> str:
    return "partial" if row.get(f"{name}_partial") else _number(row.get(name, math.nan))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _scaled(value: float, unit: float) -> str:
    return "" if math.isnan(value) else f"{value / unit:.3g}"


def _signed(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:+.2f}" + ("" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")
