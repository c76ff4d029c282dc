"""What `robustvit factors` answers: the factor view, or a fit over it, whole for programs and short for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustvit.results.factors.regression import augreg_fit, effective_robustness, need, pareto, scaling_fit

FITS = ("effective", "augreg", "scaling")
DEFAULT_TERMS = ("pretraining", "kind")


@dataclass(frozen=True)
class Answer:
    """table: every column and digit. page: what a terminal has room for, as text. sentence: what the fit came to, "" of a plain view."""

    table: pd.DataFrame
    page: pd.DataFrame
    sentence: str = ""


def answer(
    view: pd.DataFrame, fit: str | None, shift: str, cost: str, terms: Sequence[str] | None = None, among: pd.DataFrame | None = None
) -> Answer:
    """The view, or a fit over it. terms: of `augreg`; among: the models that the line of `effective` is fitted over."""
    if fit == "effective":
        return effective(view, shift, among)
    if fit == "augreg":
        return augreg(view, shift, terms or DEFAULT_TERMS)
    return plain(view, shift, cost) if fit is None else scaling(view, shift, cost)


def usual_shift(view: pd.DataFrame) -> str:
    """The score that is shown where none is named: imagenet-a, or else the first beside the clean accuracy."""
    names = [name for name in view.attrs["scores"] if name != "clean"]
    return "imagenet-a" if "imagenet-a" in names or not names else names[0]


def plain(view: pd.DataFrame, shift: str, cost: str) -> Answer:
    """The view itself; its page tells the clean accuracy and one score, and marks the models that nothing beats at their cost."""
    best = set(pareto(view, cost, shift).index)
    lines = [
        {
            "model": row["model"], "pretraining": row["pretraining"], "recipe": row["recipe"], "M parameters": _scaled(row["parameters"], 1e6),
            "GMACs": _scaled(row["macs"], 1e9), **{name: _number(row.get(name, math.nan)) for name in dict.fromkeys(("clean", shift))},
            "front": "*" if index in best else "",
        }
        for index, row in view.iterrows()
    ]  # fmt: skip
    return Answer(view, pd.DataFrame(lines))


def effective(view: pd.DataFrame, shift: str, among: pd.DataFrame | None = None) -> Answer:
    """Effective robustness, the most robust model first; last those left out, with the reason."""
    found = effective_robustness(view, shift, among=among)
    page = pd.DataFrame({
        "model": found.table["model"], "clean": found.table["clean"].map(_number), shift: found.table[shift].map(_number),
        "expected": found.table["expected"].map(_number),
        "effective": [_signed(row["effective"], row["low"], row["high"]) for _, row in found.table.iterrows()],
    })  # fmt: skip
    out = found.table["left_out"]
    if (out == "").all():
        return Answer(found.table, page, str(found.line))
    return Answer(found.table, page.assign(**{"left out": out}), f"{found.line}; left out: {(out != '').sum()} of {len(out)}")


def augreg(view: pd.DataFrame, shift: str, terms: Sequence[str]) -> Answer:
    """The regression on factors."""
    found = augreg_fit(view, shift, terms)
    page = found.table.assign(
        coefficient=found.table["coefficient"].map("{:+.3f}".format), standard_error=found.table["standard_error"].map("{:.3f}".format),
        t=found.table["t"].map("{:+.1f}".format), p=found.table["p"].map("{:.2g}".format),
    )  # fmt: skip
    return Answer(found.table, page, str(found))


def scaling(view: pd.DataFrame, score: str, cost: str) -> Answer:
    """The scaling law."""
    found = scaling_fit(view, need(view, score), cost)
    return Answer(found.table, found.table.assign(value=found.table["value"].map("{:.4f}".format)), str(found))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _scaled(value: float, unit: float) -> str:
    return "" if math.isnan(value) else f"{value / unit:.3g}"


def _signed(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:+.2f}" + ("" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")
