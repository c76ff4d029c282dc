"""The numbers of one model in each family of perturbations: what its overview shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from robustvit.report.labels import format_number, sorted_levels
from robustvit.report.points import Point
from robustvit.results.families.row_families import FAMILIES, row_families
from robustvit.results.gradient_masking import worst_verdict
from robustvit.results.pages import headline_in_words
from robustvit.results.parameters import distinguishing
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.spec import registry
from robustvit.spec.written.words import metric_name, with_spaces

_MOST = 4  # numbers of a family
_ERRORS = ("corruption_error", "mean_corruption_error", "mean_err_15", "mean_err_19")
_MEANS = ("mean_err_15", "mean_corruption_error", "mean_err_19")  # the first that a suite has is shown
_NORMALISED = "mce_alexnet"
_ACCURACIES = ("top1", "robust_accuracy", "worst_case_accuracy")


@dataclass(frozen=True)
class OverviewNumber:
    """An accuracy of a family in %, or another share of which more is better. point: its value and interval; n: samples.

    where: suite and data set; clean: the accuracy on the clean images of the same data, NaN where it is not known; note: a number that
    stands for the same cells (`mCE 76.7 [75.2, 78.1]`). rows: of the leaderboard.
    """

    family: str
    title: str
    where: str
    point: Point
    n: int
    clean: float = math.nan
    note: str = ""
    rows: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the other numbers of a model, and finds it in those of another."""
        return self.family, self.where, self.title


@dataclass(frozen=True)
class Overview:
    """The numbers of a model by family, the clean ones first (family `clean`).

    label: of the model, without what tells it from others of that label. more: how many numbers of a family are left out; missing:
    families that the store has nothing of; undrawn: those that it has other numbers of.
    """

    model: str
    label: str
    numbers: tuple[OverviewNumber, ...]
    more: Mapping[str, int]
    missing: tuple[str, ...]
    undrawn: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """Those that it shows."""
        return tuple(name for name in FAMILIES if any(one.family == name for one in self.numbers))


def overviews(rows: pd.DataFrame) -> list[Overview]:
    """The overview of every model of a leaderboard, in its order; models of one label and another seed or precision have their own."""
    families = row_families(rows)
    keys = ["model", *distinguishing(rows, ("seed", "precision", "storage"))]
    found = []
    for key, part in rows.groupby(keys, sort=False):
        texts = [f"seed {value}" if name == "seed" else str(value) for name, value in zip(keys, key, strict=True)]
        random = " (random weights)" if (part["weights"] == "random").any() else ""
        found.append(_overview(" · ".join(text for text in texts if text) + random, part, families[part.index]))
    return found


def _overview(model: str, rows: pd.DataFrame, families: pd.Series) -> Overview:
    plain = rows[rows["transforms"] == ""]
    clean: dict[str, OverviewNumber] = {}
    found: list[OverviewNumber] = []
    for (suite, base), part in plain.groupby(["suite", "base"], sort=False):
        for one in _clean(part, str(base)):
            if one.n > (clean[str(base)].n if str(base) in clean else 0):
                clean[str(base)] = one
        found += _of_suite(part, families[part.index], f"{suite} · {base}")
    found += _compressed(rows[families == "compressed"])
    known = {base: one.point.value for base, one in clean.items()}
    found = [_beside_clean(one, known) for one in found]
    kept = [one for name in FAMILIES for one in [every for every in found if every.family == name][:_MOST]]
    more = {name: sum(one.family == name for one in found) - sum(one.family == name for one in kept) for name in FAMILIES}
    drawn, there = {one.family for one in kept}, set(families)
    return Overview(
        model, str(rows["model"].iloc[0]), (*clean.values(), *kept), {name: count for name, count in more.items() if count},
        tuple(name for name in FAMILIES if name not in there), tuple(name for name in FAMILIES if name in there - drawn),
    )  # fmt: skip


def _beside_clean(one: OverviewNumber, clean: Mapping[str, float]) -> OverviewNumber:
    return OverviewNumber(**{**vars(one), "clean": clean.get(str(one.rows["base"].iloc[0]), math.nan)})


def _clean(part: pd.DataFrame, base: str) -> Iterator[OverviewNumber]:
    own = part[(part["scenario"] == "clean") & (part["metric"] == "top1") & (part["data"] == part["base"])]
    for index in own.index:
        yield _number("clean", "top-1 accuracy", base, ShownNumber("", own.loc[[index]]))


def _of_suite(part: pd.DataFrame, families: pd.Series, where: str) -> list[OverviewNumber]:
    """The numbers of one suite, in the order of a summary."""
    every: dict[str, list[ShownNumber]] = {}
    numbers = headline_numbers(part)
    for one in numbers:
        family = str(families[one.rows.index[0]])
        if family and _drawn(one, family) and not (one.rows["status"] == "undefined").all():
            every.setdefault(family, []).append(one)
    normalised = {str(families[one.rows.index[0]]): one for one in numbers if one.metric == _NORMALISED}
    return [
        _number(family, _title(one, family), where, one, _note(normalised.get(family)) if one.metric in _ERRORS else "")
        for family, some in every.items()
        for one in _chosen(family, some)
    ]


def _drawn(one: ShownNumber, family: str) -> bool:
    """Whether a number is an accuracy, an error whose rest is one, or another share of which more is better."""
    if one.metric in _ERRORS or one.metric in _ACCURACIES:
        return True
    entry = registry.entries("metric").get(one.metric.partition("(")[0])
    other = family in ("certified", "shift", "geometry") and not one.metric.startswith("top")
    return other and entry is not None and entry.unit == "%" and entry.higher_is_better and entry.over == "cell"


def _chosen(family: str, numbers: Sequence[ShownNumber]) -> list[ShownNumber]:
    """Of errors the mean, of attacks the worst case or each at its largest budget, the lowest first; of others all."""
    mean = next((one for metric in _MEANS for one in numbers if one.metric == metric), None)
    errors = [one for one in numbers if one.metric in _ERRORS]
    rest = [one for one in numbers if one.metric not in _ERRORS]
    if mean is None and len(errors) > 1:
        mean = ShownNumber(f"mean error, {len(errors)} corruptions", pd.concat([one.rows for one in errors]))
    worst = [one for one in rest if one.metric == "worst_case_accuracy"]
    attacked = [one for one in rest if one.metric == "robust_accuracy"]
    others = [one for one in rest if one.metric not in ("worst_case_accuracy", "robust_accuracy")]
    strongest = worst or sorted(_largest(attacked), key=_value)
    return [*([mean] if mean is not None else errors), *strongest, *(others if family != "attack" else [])]


def _value(one: ShownNumber) -> float:
    value = float(one.facts["value"])
    return math.inf if math.isnan(value) else value


def _largest(numbers: Sequence[ShownNumber]) -> list[ShownNumber]:
    """Of each attack with its parameters, the number at its largest budget."""
    groups: dict[tuple[str, str], dict[str, ShownNumber]] = {}
    for one in numbers:
        row = one.rows.iloc[0]
        groups.setdefault((str(row["scenario"]), str(row["params"])), {})[str(row["severity"])] = one
    return [some[sorted_levels(list(some))[-1]] for some in groups.values()]


def _title(one: ShownNumber, family: str) -> str:
    if one.metric == "mean_corruption_error":
        return "mean over corruptions" if family == "corruption" else "mean over scenarios"
    if one.metric in _MEANS:
        return metric_name(one.metric).replace("error", "accuracy")
    if one.metric in _ERRORS:
        return one.title.replace("mean error,", "mean of").replace(" error", "")
    return with_spaces(headline_in_words(one)).removesuffix(" accuracy" if one.metric == "robust_accuracy" else " top-1")


def _note(one: ShownNumber | None) -> str:
    if one is None or math.isnan(one.facts["value"]):
        return ""
    facts = one.facts
    return f"mCE {format_number(facts['value'])} [{format_number(facts['low'])}, {format_number(facts['high'])}]"


def _compressed(rows: pd.DataFrame) -> Iterator[OverviewNumber]:
    """The clean accuracy of each compressed model."""
    own = rows[(rows["scenario"] == "clean") & (rows["metric"] == "top1") & (rows["data"] == rows["base"])]
    for index, row in own.drop_duplicates(["transforms", "base"]).iterrows():
        yield _number("compressed", f"{row['transforms']}, clean", f"{row['suite']} · {row['base']}", ShownNumber("", own.loc[[index]]))


def _number(family: str, title: str, where: str, one: ShownNumber, note: str = "") -> OverviewNumber:
    """The number as it is drawn: of an error what is left of 100."""
    facts = one.facts
    value, low, high = facts["value"], facts["low"], facts["high"]
    status = next((str(text) for text in one.rows["status"] if text != "complete"), "complete")
    if one.metric in _ERRORS:
        value, low, high = 100 - value, 100 - high, 100 - low
    known = len(one.rows) == 1 or status == "complete"
    reason = next((str(text) for text in one.rows["reason"] if text), "")
    gradients = worst_verdict(one.rows["gradients"])
    point = Point(value, low, high, status, reason, gradients) if known else Point(math.nan, status=status, note=reason)
    return OverviewNumber(family, title, where, point, facts["n"], note=note, rows=one.rows)
