"""The leaderboard in brief: one row for each model and suite, all as text, for terminals and READMEs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.results.editions import differences
from robustvit.results.gradient_masking import verdict_word, worst_verdict
from robustvit.results.parameters import crafted_elsewhere, distinguishing, parsed_parameters
from robustvit.results.scoring.group_scores import GROUP
from robustvit.spec.grouping import grouped
from robustvit.statistics.estimates import describes, of_costs, of_measurements, of_votes, on_curve
from robustvit.statistics.intervals import mean_of

_ATTACKED = {"robust_accuracy": "accuracy", "robust_accuracy_same_draw": "accuracy, same draw"}
_MEANS = ("mean_corruption_error", "mean_err_15")
_FEW = 6  # corruptions whose errors a summary shows one by one


def summary(board: pd.DataFrame) -> pd.DataFrame:
    """One row per model and suite: clean and shifted top-1, errors by corruption, accuracy under attack, averages, a status; all text.

    A number has its interval beside it, and its status where it is not complete; one without a value shows its status. More than six
    corruptions are shown as their mean, which is left out when one of them is missing. A ? marks a number whose `reason` on the leaderboard
    says why (a clean accuracy that is no better than chance, input gradients that were not finite), a ! an accuracy under attack of a model
    whose gradients are suspect; `gradients` is the verdict's word. Where models of one suite were evaluated with other versions of a
    plug-in, or on other images under one name, the column `differs` names theirs.
    """
    apart = {"model", "suite", "base", *distinguishing(board, GROUP)}
    keys = [name for name in GROUP if name in apart]
    names = ["data" if name == "base" else name for name in keys]
    differing = differences(board, keys)
    found = [
        _summed(dict(zip(names, key, strict=True)), part) | ({"differs": differing[key]} if key in differing else {})
        for key, part in board.groupby(keys, sort=False)
    ]
    table = pd.DataFrame(found).fillna("")
    last = [name for name in ("differs", "gradients", "status") if name in table]
    return table[[name for name in table.columns if name not in last] + last]


def with_interval(value: float, low: float, high: float) -> str:
    """A number as tables print it: `97.8 [96.1, 98.8]`."""
    return f"{_round(value)} [{_round(low)}, {_round(high)}]"


class ShownNumber(NamedTuple):
    """A number under a title. rows: the row of the leaderboard that it is, or those that it is the mean of."""

    title: str
    rows: pd.DataFrame

    @property
    def text(self) -> str:
        """With its interval and marks."""
        return cell_text(self.rows.iloc[0]) if len(self.rows) == 1 else with_interval(*self._estimate)

    @property
    def metric(self) -> str:
        """The label of its metric."""
        return str(self.rows["metric"].iloc[0])

    @property
    def higher_is_better(self) -> bool | None:
        """The direction of its metric, None where neither more nor less is better."""
        return None if describes(self.metric) else bool(self.rows["higher_is_better"].iloc[0])

    @property
    def facts(self) -> dict[str, Any]:
        """value, low, high, n, status."""
        value, low, high = self._estimate
        return {"value": value, "low": low, "high": high, "n": int(self.rows["n"].max()), "status": str(self.rows["status"].iloc[0])}

    @property
    def _estimate(self) -> tuple[float, float, float]:
        return mean_of(np.column_stack([self.rows[name].to_numpy() for name in ("value", "low", "high")]))


def _summed(key: dict[str, Any], part: pd.DataFrame) -> dict[str, Any]:
    marked = " (random weights)" if (part["weights"] == "random").any() else ""
    row: dict[str, Any] = {**key, "model": f"{key['model']}{marked}", "n": _counts_text(part)}
    if part["data"].nunique() == 1:
        row["data"] = str(part["data"].iloc[0])
    row |= {one.title: one.text for one in headline_numbers(part)}
    verdict = verdict_word(worst_verdict(part["gradients"]))
    return row | ({"gradients": verdict} if verdict else {}) | {"status": _status(part)}


def headline_numbers(part: pd.DataFrame) -> list[ShownNumber]:
    """The numbers of one model on one suite that a summary shows, from their rows of a leaderboard."""
    found = _clean(part)
    part = part[(~_among(part["metric"], of_costs) | (part["cell"] == "")) & ~_among(part["params"], crafted_elsewhere)]
    part = part[~_among(part["metric"], on_curve)]
    attacks = part[part["metric"] == "robust_accuracy"]
    curves = part[part["metric"].str.startswith("robust_accuracy_at")]
    attacked = part["cell"].isin([*attacks["cell"], *curves["cell"]])
    own = (part["scenario"] != "clean") & (part["severity"] == "") & (part["cell"] != "") & ~attacked
    found += _each(part[own & (part["metric"] == "top1")], "top-1")
    errors = part[(part["metric"] == "corruption_error") & (part["scenario"] != "")]
    if len(errors) <= _FEW:
        found += [ShownNumber(f"{name} error", errors.loc[[index]]) for index, name in errors["scenario"].items()]
    elif (errors["status"] == "complete").all() and not part["metric"].isin(_MEANS).any():
        found.append(ShownNumber(f"mean error, {len(errors)} corruptions", errors))
    rates = part[part["metric"] == "fooling_rate"]
    nested = rates["params"].str.contains("corruption=", regex=False)
    found += _fooled(rates[nested]) + _each(rates[~nested & ~rates["cell"].isin(attacks["cell"]) & (rates["cell"] != "")], "fooling rate")
    for metric, what in _ATTACKED.items():
        found += _each(part[part["metric"] == metric], what)
    found += [ShownNumber(f"{row['scenario']} {row['metric']}", curves.loc[[index]]) for index, row in curves.iterrows()]
    of_cells = part[(part["cell"] != "") & ~part["metric"].isin(("top1", *_ATTACKED, "fooling_rate", "")) & ~part.index.isin(curves.index)]
    alone = ~of_cells["metric"].duplicated(keep=False)  # a metric of one cell alone needs no other name than its own
    found += _each(of_cells[~alone & _among(of_cells["metric"], lambda metric: of_votes(metric) or of_measurements(metric))])
    averages = part[(part["cell"] == "") & (part["metric"] != "")]
    worst = averages[(averages["scenario"] != "") & (averages["metric"] == "worst_case_accuracy")]
    found += [ShownNumber(str(metric), of_cells.loc[[index]]) for index, metric in of_cells.loc[alone, "metric"].items()]
    found += [ShownNumber(f"worst case {ball}", worst.loc[[index]]) for index, ball in worst["scenario"].items()]
    return found + [ShownNumber(str(row["metric"]), part.loc[[index]]) for index, row in averages[averages["scenario"] == ""].iterrows()]


def _among(texts: pd.Series, condition: Callable[[str], bool]) -> pd.Series:
    """Which texts a condition holds for; it is asked once for equal ones."""
    return texts.isin([text for text in texts.unique() if condition(text)])


def _clean(part: pd.DataFrame) -> list[ShownNumber]:
    """Every metric of the clean images of a suite that has other scenarios, and what they cost; of several data sets each."""
    clean = part[(part["scenario"] == "clean") & (part["metric"] != "")]
    others = part["metric"].duplicated(keep=False)
    clean = clean[others[clean.index] | (clean["metric"] == "top1") | _among(clean["metric"], of_costs)]
    several = clean["data"].nunique() > 1
    return [
        ShownNumber(f"clean {metric_title(row['metric'])}" + (f" {row['data']}" if several else ""), clean.loc[[index]])
        for index, row in clean.iterrows()
    ]


def metric_title(metric: str) -> str:
    """A metric as a title names it."""
    return {"top1": "top-1", "robust_accuracy": "accuracy", "corruption_error": "error"}.get(metric, metric)


def _each(rows: pd.DataFrame, what: str = "") -> list[ShownNumber]:
    """A number for each row, named by its scenario, where several share a name with the parameters that differ, and by what it is."""
    names = zip(scenario_names(rows), rows.iterrows(), strict=True)
    return [ShownNumber(f"{name} {what or row['metric']}", rows.loc[[index]]) for name, (index, row) in names]


def _fooled(nested: pd.DataFrame) -> list[ShownNumber]:
    """The mean fooling rate over the corruptions inside one scenario (patch_corruption), left out where one of them is missing."""
    every = (parsed_parameters(text) for text in nested["params"])
    others = [", ".join(f"{key}={value}" for key, value in one.items() if key != "corruption") for one in every]
    groups = [part for _, part in nested.assign(params=others).groupby(["scenario", "params", "severity"], sort=False)]
    names = scenario_names(pd.concat([part.head(1) for part in groups])) if groups else []
    return [
        ShownNumber(f"{name} fooling rate, mean of {len(part)}", part)
        for name, part in zip(names, groups, strict=True)
        if (part["status"] == "complete").all()
    ]


def scenario_names(rows: pd.DataFrame) -> list[str]:
    """Names that tell scenarios apart: `pgd 4/255`, and where one has several variants with what differs: `pgd steps=50 4/255`."""
    every = [parsed_parameters(text) for text in rows["params"]]
    scenarios = [str(name) for name in rows["scenario"]]
    alike = grouped(zip(scenarios, every, strict=True))
    varied = {name: {key for own in some for key in own if len({other.get(key) for other in some}) > 1} for name, some in alike.items()}
    names = []
    for scenario, own, severity in zip(scenarios, every, rows["severity"], strict=True):
        keys = [key for key in own if key in varied[scenario] and own[key] != "None"]
        differing = [own[key] if key == "norm" else f"{key}={own[key]}" for key in keys]
        names.append(" ".join(word for word in (scenario, *differing, severity) if word))
    return names


def _counts_text(part: pd.DataFrame) -> str:
    """How many samples the cells have: `500`, or `200 to 250`."""
    of_cells = part[part["cell"] != ""]
    counts = of_cells.groupby("cell")["n"].max() if len(of_cells) else part["n"]  # a metric may leave some of a cell's samples out
    least, most = int(counts[counts > 0].min() if (counts > 0).any() else 0), int(counts.max())
    return str(most) if least == most else f"{least} to {most}"


def cell_text(row: pd.Series) -> str:
    """A number with its interval and its marks: ! where the gradients that an attack followed are suspect, ? where a reason says why."""
    if np.isnan(row["value"]):
        return str(row["status"])
    suspect = " !" if verdict_word(row["gradients"]) == "suspect" else ""
    marked = " ?" if row["status"] == "complete" and row["reason"] else ""
    unfinished = "" if row["status"] == "complete" else f" {row['status']}"
    return with_interval(row["value"], row["low"], row["high"]) + suspect + marked + unfinished


def _status(part: pd.DataFrame) -> str:
    """`complete`, or how many cells are not."""
    cells = part[part["cell"] != ""].drop_duplicates("cell")
    counts = {status: int((cells["status"] == status).sum()) for status in ("failed", "partial", "undefined")}
    texts = [f"{count} of {len(cells)} cells {status}" for status, count in counts.items() if count]
    averages = int(((part["cell"] == "") & (part["status"] == "partial")).sum())
    if averages and not texts:
        texts.append(f"{averages} average{'' if averages == 1 else 's'} partial")
    return ", ".join(texts) or "complete"


def _round(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 1 or abs(value) < 1e-6 else f"{value:.3g}"
